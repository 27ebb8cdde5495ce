"""`AsyncClient`: aiohttp, from the extra `http`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from embedmill.client import questions
from embedmill.client.patience import Patience
from embedmill.client.replies import PASSING, retry_after_s
from embedmill.client.settings import Settings
from embedmill.client.values import Call, Embedded, Found, Inputs, Item, Reply, Steps
from embedmill.errors import ServerUnavailable
from embedmill.extras import optional

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")


class AsyncClient:
    """As `Client`, for asyncio: `async with AsyncClient(url) as client: …`.

    Raises:
        MissingExtra: aiohttp is not installed.
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
        self._session: aiohttp.ClientSession | None = None
        _require_aiohttp()

    async def embed(
        self, inputs: Inputs, *, encoder: str | None = None, batch: int = questions.BATCH
    ) -> Embedded:
        """See `Client.embed`."""
        return await self._walk(questions.embed(inputs, encoder, batch))

    async def search(
        self,
        text: str | None = None,
        *,
        image: bytes | None = None,
        item: Any = None,
        vector: Any = None,
        k: int = 10,
        **more: Any,
    ) -> Found:
        """See `Client.search`."""
        return await self._walk(questions.search(text, image, item, vector, k, more))

    async def item(self, key: Any) -> Item:
        """See `Client.item`."""
        return await self._walk(questions.item(key))

    async def similar(self, key: Any, *, k: int = 10) -> Found:
        """See `Client.similar`."""
        return await self._walk(questions.similar(key, k))

    async def release(self) -> Mapping[str, Any]:
        """See `Client.release`."""
        return await self._walk(questions.release_steps())

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def _walk(self, steps: Steps[T]) -> T:
        call = next(steps)
        while True:
            reply = self._settings.check(await self._ask(call))
            try:
                call = steps.send(reply)
            except StopIteration as done:
                found: T = done.value
                return found

    async def _ask(self, call: Call) -> Reply:
        import aiohttp

        patience = Patience(self._settings.retry_for_s)
        while True:
            reply: Reply | None = None
            try:
                reply = await self._send(call)
                asked_s = retry_after_s(reply)
            except (OSError, aiohttp.ClientError, TimeoutError) as error:
                lost, asked_s = error, None
            if reply is not None and reply.status not in PASSING:
                return reply
            wait_s = patience.wait_s(asked_s)
            if wait_s is None:
                if reply is not None:
                    return reply
                raise ServerUnavailable(f"{self._settings.url}: {lost!r}") from lost
            await asyncio.sleep(wait_s)

    async def _send(self, call: Call) -> Reply:
        import aiohttp
        from yarl import URL

        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._settings.timeout_s)
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        async with self._session.request(
            call.method,
            URL(self._settings.url + call.path, encoded=True),
            data=call.body,
            headers=self._settings.headers(call),
            allow_redirects=False,
        ) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(answer.status, headers, await answer.read())


def _require_aiohttp() -> None:
    with optional("aiohttp, which AsyncClient needs,", "aiohttp", extra="http"):
        import aiohttp  # noqa: F401
