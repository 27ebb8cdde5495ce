"""The other end of `connecting`: a process that speaks to Ray, and is ended when it does not answer."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from embedmill.engines.ray.refusals import Refusal, not_listening, unavailable
from embedmill.engines.telling import Waiting
from embedmill.errors import EmbedmillError, EngineUnavailable

CONNECT_S = 45.0
"""How long reaching the cluster may take; Ray itself would try for minutes."""
LISTENS_S = 1.0
LEAVE_S = 8.0
KEEPALIVE_MS = "5000"
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_grpc_client_keepalive_time_ms": KEEPALIVE_MS,
    "RAY_grpc_client_keepalive_timeout_ms": KEEPALIVE_MS,
    "RAY_grpc_keepalive_time_ms": KEEPALIVE_MS,
    "RAY_grpc_keepalive_timeout_ms": KEEPALIVE_MS,
}
"""Keepalives: without them a call to a node behind a cut link never ends."""


@dataclass(frozen=True)
class Connection:
    """A cluster: HOST:PORT of its head or ray://HOST:PORT, the file with its token, and actors' namespace."""

    address: str
    token_file: str | None = None
    namespace: str = "embedmill"

    def environment(self) -> dict[str, str]:
        """Variables of the process that speaks to Ray. None of Ray's own that happen to be set here count."""
        found = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
        if self.token_file is None:
            return {**found, **SETTINGS, "RAY_AUTH_MODE": "disabled"}
        return {**found, **SETTINGS, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": self.token_file}


class Bridge:
    """Asks, one question at a time; a process that is gone is started again by the next question."""

    def __init__(self, connection: Connection, *, connect_s: float = CONNECT_S) -> None:
        """Start nothing yet."""
        self._connection, self._connect_s = connection, connect_s
        self._process: subprocess.Popen[bytes] | None = None
        self._words: IO[bytes] | None = None
        self._unread = b""
        self._lock = threading.Lock()

    def ask(self, timeout_s: float, do: str, **order: Any) -> dict[str, Any]:
        """The answer to an order.

        Raises:
            EngineUnavailable: There is none within `timeout_s`, or the cluster cannot be reached.
            EngineRefused: The cluster says no.
            MissingExtra: Ray is not installed.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._open()
            return self._exchange(timeout_s, {"do": do, **order})

    def close(self) -> None:
        """Leave the cluster. Actors stay."""
        with self._lock:
            process = self._process
            if process is not None and process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LEAVE_S)
            self._end()

    def _open(self) -> None:
        self._end()
        try:
            self._start()
        except OSError as error:
            self._end()
            raise EngineUnavailable(
                f"Ray at {self._connection.address}: what speaks to it cannot be started here: {error}"
            ) from error
        connect = {"address": self._connection.address, "namespace": self._connection.namespace}
        waiting = Waiting(f"Ray at {self._connection.address}")
        try:
            self._exchange(self._connect_s, {"do": "connect", **connect}, waiting)
        except EmbedmillError:
            self._end()
            raise
        waiting.answered()

    def _start(self) -> None:
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _end
        self._process = subprocess.Popen(
            [sys.executable, "-m", "embedmill.engines.ray.connecting"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env=self._connection.environment(),
            start_new_session=True,  # Ctrl-C is for this process, which then stops loops in order
        )

    def _exchange(
        self, timeout_s: float, order: Mapping[str, Any], waiting: Waiting | None = None
    ) -> dict[str, Any]:
        address = self._connection.address
        try:
            line = self._line(order, timeout_s, waiting)
        except BaseException:  # Ctrl-C: the next question must not be given the answer to this one
            self._end()
            raise
        if line is None:
            said = self._last_words()
            self._end()
            raise unavailable(address, said or f"no answer within {timeout_s:.0f} s")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Refusal.parse(answer["error"]).error(address)
        return answer

    def _line(self, order: Mapping[str, Any], timeout_s: float, waiting: Waiting | None) -> bytes | None:
        """The answer's line; None where there is none in time, or the process has ended.

        `waiting` is told about, if it becomes long.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            return None
        deadline_s, stdout = time.monotonic() + timeout_s, process.stdout.fileno()
        while b"\n" not in self._unread:
            left_s = max(0.0, deadline_s - time.monotonic())
            until_due_s = left_s if waiting is None else waiting.until_due_s()
            ready, _, _ = select.select([stdout], [], [], min(left_s, until_due_s))
            if not ready and waiting is not None and until_due_s < left_s:
                waiting.tell(self._no_answer_yet(), deadline_s - time.monotonic())
                continue
            more = os.read(stdout, 1 << 16) if ready else b""
            if not more:
                return None
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _no_answer_yet(self) -> str:
        address = self._connection.address
        why = not_listening(address, LISTENS_S)
        return f"Ray at {address} gives no answer: {why}" if why else f"Ray at {address} gives no answer yet"

    def _last_words(self) -> str:
        """Of a process that has ended."""
        if self._process is None or self._words is None or self._process.poll() is None:
            return ""
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[-400:] if lines else f"its process ended with {self._process.returncode}"

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        pipes = [] if self._process is None else [self._process.stdin, self._process.stdout]
        for stream in [*pipes, self._words]:
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._process, self._words, self._unread = None, None, b""
