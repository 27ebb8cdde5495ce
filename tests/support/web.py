"""A web server on 127.0.0.1 that can be as bad as the Internet: each path does what a function says."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

Behaviour = Callable[[asyncio.StreamWriter, "Request"], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class WebServer:
    """Behaviours by path; counts requests by (method, path), and connections."""

    port: int = 0
    paths: dict[str, Behaviour] = field(default_factory=dict)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    agents: set[str] = field(default_factory=set)
    connections: int = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"

    def downloads(self) -> set[str]:
        """Paths whose content was asked for."""
        return {path for method, path in self.asked if method == "GET"}

    def forget(self) -> None:
        self.asked.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                request = await read_request(reader)
                self.asked[request.method, request.path] += 1
                self.agents.add(request.headers.get("user-agent", ""))
                await self.paths.get(request.path, status(404))(writer, request)
                await writer.drain()
                if writer.is_closing():
                    break
        writer.close()


async def read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    pairs = (line.split(": ", 1) for line in lines)
    return Request(method, path, {name.lower(): value for name, value in pairs})


def answer(
    body: bytes = b"",
    length: int | None = None,
    *,
    code: int = 200,
    kind: str = "image/png",
    **headers: str,
) -> Behaviour:
    """An answer with a body; `length` other than its own is a lie. Header names have `_` for `-`."""
    said = {"Content-Type": kind, "Content-Length": str(len(body) if length is None else length)}
    said |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in said.items() if value)

    async def behave(writer: asyncio.StreamWriter, request: Request) -> None:
        writer.write(f"HTTP/1.1 {code} So\r\n{head}\r\n".encode())
        if request.method != "HEAD":
            writer.write(body)
        if length is not None and length != len(body):
            writer.close()

    return behave


def picture(body: bytes) -> Behaviour:
    """A static file, as usual servers give it: with an ETag that follows from its content."""
    return answer(body, ETag=f'"{hashlib.sha256(body).hexdigest()[:16]}"')


def status(code: int, **headers: str) -> Behaviour:
    return answer(b"no", None, code=code, kind="text/plain", **headers)


def redirect(location: str, code: int = 302) -> Behaviour:
    return answer(code=code, Location=location)


def raw(*pieces: bytes, every_s: float = 0.0, for_ever: bool = False) -> Behaviour:
    """These bytes, one after another with pauses, and the last one again and again if `for_ever`."""

    async def behave(writer: asyncio.StreamWriter, request: Request) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(every_s)
        while for_ever:
            writer.write(pieces[-1])
            await writer.drain()
            await asyncio.sleep(every_s)
        writer.close()

    return behave


async def hang(writer: asyncio.StreamWriter, request: Request) -> None:
    await asyncio.sleep(3600)


def failing(times: int, then: Behaviour, code: int = 503, **headers: str) -> Behaviour:
    """Refuse so many requests, then behave."""
    left = times

    async def behave(writer: asyncio.StreamWriter, request: Request) -> None:
        nonlocal left
        left -= 1
        await (status(code, **headers) if left >= 0 else then)(writer, request)

    return behave


@contextlib.contextmanager
def web_server(tls: ssl.SSLContext | None = None) -> Iterator[WebServer]:
    """A server in a thread of its own, until the block ends; it speaks HTTPS with `tls`."""
    server, loop = WebServer(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="web-server")
    thread.start()
    starting = asyncio.start_server(server.serve, "127.0.0.1", 0, limit=1 << 20, ssl=tls)
    listening = asyncio.run_coroutine_threadsafe(starting, loop).result()
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(stop(listening), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def stop(listening: asyncio.Server) -> None:
    listening.close()
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
