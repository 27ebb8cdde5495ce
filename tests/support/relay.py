"""A TCP relay that counts what goes through it, for tests of how much that is."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self


class Relay:
    """Passes connections to a server on; `moved_bytes` counts both directions since the last `reset`."""

    def __init__(self, target: str, *, bytes_per_s: float | None = None, at: str = "127.0.0.1") -> None:
        """Listen on a port of `at`, for the server at the URL `target`; `bytes_per_s`: all together."""
        host, port = target.removeprefix("http://").rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = socket.create_server((at, 0))
        self._lock = threading.Lock()
        self._bytes_per_s = bytes_per_s
        self._free_s = 0.0
        self._most_bytes = float("inf")
        self._goes_on = threading.Event()
        self._goes_on.set()
        self.moved_bytes = 0
        self.endpoint = f"http://{at}:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self._goes_on.set()

    def reset(self) -> None:
        """Count from zero again, and pass on what was held."""
        with self._lock:
            self.moved_bytes, self._most_bytes = 0, float("inf")
        self._goes_on.set()

    def hold_at(self, moved_bytes: float) -> None:
        """Pass on about so many bytes, and no more until `reset`."""
        with self._lock:
            self._most_bytes = moved_bytes
        self._goes_on.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _count(self, moved: int) -> float:
        """How many seconds these bytes have to wait."""
        with self._lock:
            self.moved_bytes += moved
            if self._bytes_per_s is None:
                return 0.0
            now = time.monotonic()
            self._free_s = max(now, self._free_s) + moved / self._bytes_per_s
            return self._free_s - now

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                time.sleep(self._count(len(data)))
                if self.moved_bytes >= self._most_bytes:
                    self._goes_on.wait()
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
