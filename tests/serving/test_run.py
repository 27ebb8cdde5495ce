from __future__ import annotations

import asyncio
import socket

import pytest

from embedmill.serving.run import ServeOptions, _bound


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_small_answers_are_sent_at_once(host: str) -> None:
    """Without TCP_NODELAY each waits for the client's delayed ACK, which is 40 ms."""
    undelayed: asyncio.Queue[int] = asyncio.Queue()

    async def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        await undelayed.put(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = _bound(ServeOptions(host=host, port=0))
    async with await asyncio.start_server(accepted, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
        assert await undelayed.get() == 1
        writer.close()
