"""How the programs of `devices` reach a server, and what its silence means."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from embedmill.errors import SpecError
from embedmill.types import Host

if TYPE_CHECKING:
    from embedmill.devices.reach import Answer
    from embedmill.spec.fleet import ServerSpec
    from embedmill.spec.fleet_reports import ServerState

SSH = ("ssh", "-T", "-a", "-x", "-o", "BatchMode=yes", "-o", "RemoteCommand=none")
"""Without a terminal, without lending the agent or the display, asking for nothing, running nothing else."""
OURS = ("-o", "ClearAllForwardings=yes", "-o", "LogLevel=ERROR")
CONNECT_S = 10


class Silence(NamedTuple):
    """Why a server did not answer, and what to do."""

    state: ServerState
    reason: str
    lacks_python: bool = False
    """It was reached, and has no python3 that can run what is sent there, and nothing else to ask."""


def host_of(name: str, server: ServerSpec, *, connect_s: int = CONNECT_S) -> Host:
    """The server as engines know it.

    Raises:
        SpecError: Its kind is not one that programs are sent to.
    """
    return Host(name, _reach(name, server, connect_s), server.folder)


def _reach(name: str, server: ServerSpec, connect_s: int) -> tuple[str, ...]:
    """People's own options come before ours: ssh takes the first of each."""
    if server.kind == "local":
        return ()
    if server.kind != "ssh":
        why = f"{name}: kind {server.kind}: no program can be sent there"
        raise SpecError(why, hint=f"its engine, {server.kind}, places workers there by itself")
    port = () if server.port is None else ("-p", str(server.port))
    patience = ("-o", f"ConnectTimeout={connect_s}")
    return (*SSH, *server.options, *port, *patience, *OURS, server.address or name)


_UNREACHABLE: dict[str, str] = {
    "could not resolve hostname": "is `address` right, or does ssh's configuration lack the name?",
    "connection refused": "no sshd listens there: is it on, and is `port` right?",
    "timed out": "is it on, and can it be reached from here?",
    "no route to host": "is it on, and can it be reached from here?",
    "network is unreachable": "is it on, and can it be reached from here?",
    "connection reset": "its sshd hung up: is it overloaded, or starting? (MaxStartups)",
    "connection closed": "its sshd hung up: is it overloaded, or starting? (MaxStartups)",
}
_HUNG = "timed out during banner exchange"
_REFUSED: dict[str, str] = {
    "remote host identification has changed": "its host key is not the one that you know: find out why",
    "host key verification failed": "its host key is not known here: connect by hand once, and compare it",
    "permission denied": "it accepts none of your keys for this user: add one to its authorized_keys",
    "too many authentication failures": "too many keys were offered: set IdentityFile and IdentitiesOnly",
}


def silence_of_ssh(answer: Answer) -> Silence:
    """What ssh's words mean, where it had no connection."""
    words = answer.words.lower()
    for found, hint in _REFUSED.items():
        if found in words:
            return Silence("refused", f"{_said(answer)}: {hint}")
    if _HUNG in words:
        return Silence("timeout", f"{_said(answer)}: it hangs, or is overloaded")
    for found, hint in _UNREACHABLE.items():
        if found in words:
            return Silence("unreachable", f"{_said(answer)}: {hint}")
    return Silence("unreachable", _said(answer) or "ssh had no connection, and did not say why")


def _said(answer: Answer) -> str:
    """Ssh's last line, without its full stop."""
    return answer.last_line.removeprefix("ssh: ").rstrip(".")
