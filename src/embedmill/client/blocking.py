"""`Client`: the standard library's HTTP, one connection a thread."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from embedmill.client import questions
from embedmill.client.patience import Patience
from embedmill.client.replies import PASSING, retry_after_s
from embedmill.client.settings import Settings
from embedmill.client.values import Call, Embedded, Found, Inputs, Item, Reply, Steps
from embedmill.errors import ServerUnavailable

T = TypeVar("T")


class Client:
    """Asks a server of one pipeline. Threads may share it.

    Args:
        url: Where the server is, such as `http://127.0.0.1:8080`.
        key: Sent as `Authorization: Bearer …`.
        timeout_s: For how long one answer is waited for.
        retry_for_s: For how long one request is sent again: after 429, 502, 503, 504 and lost connections,
            for nothing is ever written. `Retry-After` is honoured where it is within this.
        expect_release: Name or number of the release that must answer.
        expect_model: Digest of the model package that must answer.

    Every method raises `RequestRefused`, `Overloaded` or `ServerUnavailable`, and `ReleaseMismatch` where an
    answer is from another release or model than is expected.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = 30.0,
        retry_for_s: float = 30.0,
        expect_release: str | int | None = None,
        expect_model: str | None = None,
    ) -> None:
        self._settings = Settings(url.rstrip("/"), key, timeout_s, retry_for_s, expect_release, expect_model)
        self._threads = threading.local()

    def embed(self, inputs: Inputs, *, encoder: str | None = None, batch: int = questions.BATCH) -> Embedded:
        """Vectors of texts, image files or rows, all of one release, however many requests that takes.

        `encoder`: by default `query_text` for texts and `query_image` for images, where the model has them,
        else `item`. `batch`: inputs of one request.
        """
        return self._walk(questions.embed(inputs, encoder, batch))

    def search(
        self,
        text: str | None = None,
        *,
        image: bytes | None = None,
        item: Any = None,
        vector: Any = None,
        k: int = 10,
        **more: Any,
    ) -> Found:
        """The `k` items nearest to a text, an image file, an item's id or a vector.

        `more` goes into the request as it is: `where`, `min_score`, `fields`.
        """
        return self._walk(questions.search(text, image, item, vector, k, more))

    def item(self, key: Any) -> Item:
        """An item, by its id."""
        return self._walk(questions.item(key))

    def similar(self, key: Any, *, k: int = 10) -> Found:
        """The `k` items nearest to an item."""
        return self._walk(questions.similar(key, k))

    def release(self) -> Mapping[str, Any]:
        """What is served, and what it proved."""
        return self._walk(questions.release_steps())

    def close(self) -> None:
        """Close this thread's connection."""
        connection: http.client.HTTPConnection | None = self._threads.__dict__.pop("connection", None)
        if connection is not None:
            connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _walk(self, steps: Steps[T]) -> T:
        call = next(steps)
        while True:
            reply = self._settings.check(self._ask(call))
            try:
                call = steps.send(reply)
            except StopIteration as done:
                found: T = done.value
                return found

    def _ask(self, call: Call) -> Reply:
        patience = Patience(self._settings.retry_for_s)
        while True:
            reply: Reply | None = None
            try:
                reply = self._sent(call)
                asked_s = retry_after_s(reply)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                lost, asked_s = error, None
            if reply is not None and reply.status not in PASSING:
                return reply
            wait_s = patience.wait_s(asked_s)
            if wait_s is None:
                if reply is not None:
                    return reply
                raise ServerUnavailable(f"{self._settings.url}: {lost!r}") from lost
            time.sleep(wait_s)

    def _sent(self, call: Call) -> Reply:
        """Servers close connections that lie idle: that is noticed only when the next request is sent."""
        idle = "connection" in self._threads.__dict__
        try:
            return self._send(call)
        except (ConnectionError, http.client.RemoteDisconnected):
            if not idle:
                raise
            self.close()
            return self._send(call)

    def _send(self, call: Call) -> Reply:
        connection = self._connection()
        path = urlsplit(self._settings.url).path + call.path
        connection.request(call.method, path, call.body, self._settings.headers(call))
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, headers, answer.read())

    def _connection(self) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = self._threads.__dict__.get("connection")
        if found is None:
            parts = urlsplit(self._settings.url)
            kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
            found = kind(parts.hostname or "", parts.port, timeout=self._settings.timeout_s)
            self._threads.connection = found
        return found
