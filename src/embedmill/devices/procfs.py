"""What /proc tells of processes on this host: their names, their users, and who has a device node open."""

from __future__ import annotations

import os
from typing import Any

INITIAL_NAMESPACE = "pid:[4026531836]"
"""The host's own: PROC_PID_INIT_INO of linux/proc_ns.h."""
NAME_CHARACTERS = 64


def namespaced() -> bool:
    """Whether pids here are not the host's, as in most containers; NVML tells the host's."""
    try:
        return os.readlink("/proc/self/ns/pid") != INITIAL_NAMESPACE
    except OSError:
        return True


def described(pid: int) -> dict[str, Any]:
    """`name` (the program's, not cut to 15 characters as in `comm`), `user`, and whether it is `ours`."""
    arguments = _arguments(pid)
    words = os.path.basename(arguments[0]).split() if arguments else []
    name = words[0][:NAME_CHARACTERS] if words else _comm(pid)
    return {"name": name, "user": _user(pid), "ours": is_worker(arguments)}


def is_worker(arguments: list[str]) -> bool:
    """Whether an argument vector is that of a worker of Embedmill."""
    names = [os.path.basename(each) for each in arguments]
    return "embedmill" in names and "worker" in names[names.index("embedmill") :]


def holders(minors: list[int], without: set[int]) -> tuple[dict[int, list[int]], bool]:
    """Pids that have /dev/nvidia<minor> open, by minor number; whether all processes could be looked at."""
    nodes = {f"/dev/nvidia{minor}": minor for minor in minors}
    found: dict[int, list[int]] = {minor: [] for minor in minors}
    complete = True
    for pid in _pids():
        if pid in without:
            continue
        try:
            targets = {_target(f"/proc/{pid}/fd/{each}") for each in os.listdir(f"/proc/{pid}/fd")}
        except PermissionError:
            complete = False
            continue
        except OSError:
            continue  # it has ended
        for node in sorted(targets & nodes.keys()):
            found[nodes[node]].append(pid)
    return found, complete


def _pids() -> list[int]:
    return sorted(int(each) for each in os.listdir("/proc") if each.isdigit())


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _arguments(pid: int) -> list[str]:
    return [each for each in _read(f"/proc/{pid}/cmdline").split("\0") if each]


def _comm(pid: int) -> str | None:
    return _read(f"/proc/{pid}/comm").strip() or None


def _user(pid: int) -> str | None:
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return str(uid)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
