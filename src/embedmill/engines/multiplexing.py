"""One ssh connection a host, kept while an engine lives: asking again costs a round trip and no handshake."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.devices.reach import run_command

if TYPE_CHECKING:
    from embedmill.types import Host

KEPT_S = 60
"""An unused connection ends after this, whatever became of the process that opened it."""
ALIVE_S, ALIVE_TRIES = 5, 3
"""A host that says nothing for so long has no connection any more."""
LONGEST_FOLDER = 40
"""Characters. A socket's path has 107 at most; ssh takes 40 for %C, and 17 while it makes the socket."""
TIMEOUT_S = 5.0


class Connections:
    """Adds multiplexing to what reaches a host, except where people have configured their own."""

    def __init__(self) -> None:
        """Open nothing yet."""
        temporary = tempfile.gettempdir()
        folder = temporary if len(temporary) <= LONGEST_FOLDER - len("/embedmill-12345678") else "/tmp"  # noqa: S108 - mkdtemp makes a private one
        self._folder = Path(tempfile.mkdtemp(prefix="embedmill-", dir=folder))
        self._reaches: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._lock = threading.Lock()

    def reach(self, host: Host) -> tuple[str, ...]:
        """What a command line is appended to; a host's first call asks ssh for its configuration."""
        with self._lock:
            known = self._reaches.get(host.reach)
        if known is None:
            ours = _is_ssh(host.reach) and not _has_its_own(host.reach)
            known = (*host.reach[:1], *self._options(), *host.reach[1:]) if ours else host.reach
            with self._lock:
                self._reaches[host.reach] = known
        return known

    def close(self) -> None:
        """End the connections that were opened here."""
        with self._lock:
            ours = [reach for plain, reach in self._reaches.items() if reach != plain]
            self._reaches.clear()
        for reach in ours:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run(
                    [reach[0], "-O", "exit", *reach[1:]],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=TIMEOUT_S,
                    check=False,
                )
        shutil.rmtree(self._folder, ignore_errors=True)

    def _options(self) -> tuple[str, ...]:
        settings = {
            "ControlMaster": "auto",
            "ControlPath": f"{self._folder}/%C",
            "ControlPersist": KEPT_S,
            "ServerAliveInterval": ALIVE_S,
            "ServerAliveCountMax": ALIVE_TRIES,
        }
        return tuple(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))


def _is_ssh(reach: tuple[str, ...]) -> bool:
    return bool(reach) and Path(reach[0]).name == "ssh"


def _has_its_own(reach: tuple[str, ...]) -> bool:
    """Whether ssh would share a connection anyway, which may be one that a person has unlocked."""
    try:
        answer = run_command((), (reach[0], "-G", *reach[1:]), b"", TIMEOUT_S)
    except OSError:
        return True
    found = dict(
        line.split(" ", 1) for line in answer.out.decode(errors="replace").splitlines() if " " in line
    )
    return found.get("controlmaster", "false") not in {"false", "no"} or "controlpath" in found
