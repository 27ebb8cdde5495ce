"""`embedmill serve` as a process of its own, on a free port of 127.0.0.1."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

ENDING_S = 120.0
INTERRUPTED = 130


@dataclass(frozen=True)
class ServerProcess:
    """A server that listens."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


@contextmanager
def serving(target: Path, *options: str) -> Iterator[ServerProcess]:
    """Serve a pipeline.yaml or a release's folder until the block ends; it must end by itself."""
    command = [sys.executable, "-m", "embedmill", "serve", str(target), "--port", "0", "--json"]
    process = subprocess.Popen([*command, "--drain", "0", *options], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        said = b"".join(takewhile(lambda line: line != b"}\n", process.stdout))
        assert said, f"the server ended with {process.wait(ENDING_S)} before it listened"
        yield ServerProcess(json.loads(said + b"}")["url"], process)
        assert process.poll() is None, f"the server ended with {process.returncode}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDING_S) in {0, INTERRUPTED}
    finally:
        process.kill()
        process.wait(ENDING_S)
        process.stdout.close()
