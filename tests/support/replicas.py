"""Server processes, as pods run them: fetched, started, ready or never, told to end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

EMBEDMILL = [sys.executable, "-m", "embedmill"]


class NeverReady(Exception):
    """A server ended before it was ready, with `code`; `said` is what it printed."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"exit code {code}: {said}")
        self.code = code
        self.said = said


class Replica:
    """One `embedmill serve`: of a folder, or with more options of a pipeline.yaml."""

    def __init__(self, target: Path, *more: str, drain_s: float = 0.5) -> None:
        """Start it, on a free port."""
        options = ["--port", "0", "--threads", "1", "--drain", str(drain_s), "--json", *more]
        self._errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - `_close` does
        self._process = subprocess.Popen(
            [*EMBEDMILL, "serve", str(target), *options],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._shown: dict[str, Any] = {}

    def wait_ready(self, timeout_s: float = 120) -> str:
        """Its URL, once it listens.

        Raises:
            NeverReady: It ended instead.
        """
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        reader.join(timeout_s)
        if "url" not in self._shown:
            code = self._end()
            self._errors.seek(0)
            raise NeverReady(code, json.dumps(self._shown) + self._errors.read())
        return self.url

    @property
    def url(self) -> str:
        return str(self._shown["url"])

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def release(self) -> str:
        return str(self._shown["release"])

    def peak_memory_bytes(self) -> int:
        """Bytes that it ever had in memory."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    def told_to_end(self) -> None:
        """As the kubelet does it."""
        self._process.send_signal(signal.SIGTERM)

    def wait_ended(self, timeout_s: float = 120) -> int:
        """Its exit code."""
        code = self._process.wait(timeout_s)
        self._close()
        return code

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._close()

    def _end(self) -> int:
        """The exit code of one that is ending, or does not."""
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _close(self) -> None:
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        lines = ""
        for line in self._process.stdout:
            lines += line
            if line == "}\n":
                break
        self._shown = json.loads(lines or "{}")


def run(arguments: Sequence[str]) -> None:
    """A command that a pod runs before its server.

    Raises:
        NeverReady: It failed.
    """
    done = subprocess.run([*EMBEDMILL, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NeverReady(done.returncode, done.stdout + done.stderr)
