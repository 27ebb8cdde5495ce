"""Which processes of this host are ours, as /proc shows them."""

from __future__ import annotations

from collections.abc import Callable

SESSION, PARENT = 3, 1
DEEPEST = 64


def started(pid: int) -> int | None:
    """When a process began, in clock ticks since boot: with its pid its identity. None if there is none."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] not in ("Z", "X") else None


def ours(root: int, container: Callable[[], str] = str) -> Callable[[int], bool]:
    """Whether a pid belongs to `root`: as a descendant, in its session, or in a container by its id.

    `container` gives the id, or nothing while it is not known: processes of a container do not descend from
    what started it, but its id is in the names of their control groups.
    """

    def is_ours(pid: int) -> bool:
        name = container()
        if name and name in _read(f"/proc/{pid}/cgroup"):
            return True
        for _ in range(DEEPEST):
            fields = _stat(pid)
            if not fields:
                return False
            if pid == root or int(fields[SESSION]) == root:
                return True
            pid = int(fields[PARENT])
        return False

    return is_ours


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on: names may have spaces and brackets."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
