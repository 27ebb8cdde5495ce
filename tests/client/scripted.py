"""A server of HTTP that answers what it was told to, in order, and the last answer for ever."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

LABELS = {"embedmill-release": "r1", "embedmill-release-number": "1", "embedmill-model": "m1"}


class Answer(NamedTuple):
    """`status` 0: the connection is closed instead."""

    document: Any
    status: int = 200
    headers: dict[str, str] = LABELS


@dataclass
class Scripted:
    url: str
    answers: list[Answer]
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [path for _, path, _, _ in self.asked]


@contextmanager
def scripted(answers: Sequence[Answer]) -> Iterator[Scripted]:
    """The server, until the block ends."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["content-length"])))

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base has it
            pass

        def _answer(self, body: bytes) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.asked.append((self.command, self.path, headers, body))
            answer = left.pop(0) if len(left) > 1 else left[0]
            if answer.status == 0:
                self.close_connection = True
                return
            said = (
                answer.document
                if isinstance(answer.document, bytes)
                else json.dumps(answer.document).encode()
            )
            self.send_response(answer.status)
            for name, value in {**answer.headers, "content-length": str(len(said))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state = Scripted(f"http://127.0.0.1:{server.server_port}", left)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
