"""A GPU server in a folder: what its users ask of it, as engines do, each time by a process of its own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.patience import PATIENCE_S

from embedmill.devices.reach import run_there

SLEEP = ("sleep", "600")


@dataclass(frozen=True)
class Server:
    """Where the locks lie; `environment` is what its processes have beside ours."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def ask(self, action: str, **request: Any) -> dict[str, Any]:
        """What the holder's program answers."""
        reach = ("env", *(f"{name}={value}" for name, value in self.environment.items()), "sh", "-c")
        data = json.dumps({"folder": str(self.folder), **request}).encode()
        answer = run_there(
            reach if self.environment else (), "holder", action, data=data, timeout_s=PATIENCE_S
        )
        assert answer.code == 0, answer
        found: dict[str, Any] = json.loads(answer.out)
        return found

    def start(
        self, worker: str, gpus: Sequence[str], command: Sequence[str] = SLEEP, **more: Any
    ) -> dict[str, Any]:
        return self.ask("start", worker=worker, gpus=list(gpus), command=list(command), **more)

    def state(self, worker: str) -> dict[str, Any]:
        (found,) = self.ask("states", workers=[worker])["workers"]
        return dict(found)

    def stop(self, *workers: str, grace_s: float = 10) -> list[dict[str, Any]]:
        return list(self.ask("stop", workers=workers, grace_s=grace_s)["workers"])

    def note(self, worker: str) -> dict[str, Any]:
        """What the holder noted: pids, and how it ended."""
        text = (self.folder / "workers" / str(os.getuid()) / f"{worker}.json").read_text()
        found: dict[str, Any] = json.loads(text)
        return found

    def runs(self, worker: str) -> bool:
        return bool(self.state(worker)["running"])


@contextmanager
def server_in(folder: Path, **environment: str) -> Iterator[Server]:
    """A server whose workers end with the block."""
    server = Server(folder, environment)
    try:
        yield server
    finally:
        notes = folder / "workers" / str(os.getuid())
        server.stop(*(note.stem for note in notes.glob("*.json")), grace_s=0)


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, whether or not somebody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
