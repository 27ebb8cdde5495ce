"""What a process that reads strangers' files may no longer do, on Linux; newer kernels forbid more.

The limits of memory, processor time and files hold everywhere. Landlock (Linux 5.13) and a network namespace
of its own make it hold against code that runs in a broken decoder as well.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
"""System calls, on every architecture."""
LANDLOCK_VERSION, LANDLOCK_RULE_PATH_BENEATH = 1, 1

LANDLOCK_FILE_RIGHTS = (1 << 13) - 1
"""Reading, writing, executing, making and removing: the 13 rights that its first version knows."""
WRITE_FILE, READ_FILE, READ_FOLDER = 1 << 1, 1 << 2, 1 << 3
REMOVE_AND_MAKE = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8
"""Files and folders; no devices, sockets or links."""
RENAME = 1 << 13
"""From one folder to another: its second version (Linux 5.19) can grant it, the first always forbids it."""


def die_with_parent() -> None:
    """End when the thread that started this process does, whatever it is doing."""
    _libc().prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def confine(memory_bytes: int) -> None:
    """No files, no network, no processes, no more memory: for good."""
    _libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _leave_network()
    _forbid_files({})
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    _, allowed = resource.getrlimit(resource.RLIMIT_AS)
    memory_bytes = memory_bytes if allowed == resource.RLIM_INFINITY else min(memory_bytes, allowed)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, 1))  # 0 is the channel: nothing can be opened beside it


def confine_to(folder: Path, *, readable: Iterable[Path]) -> None:
    """Write into `folder` alone, read what is `readable`, no network, no other programs: for good.

    Files need Linux 5.19. It holds for this thread and those that it starts: call it before any other runs.
    """
    _libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _leave_network()
    reading, writing = READ_FILE | READ_FOLDER, WRITE_FILE | REMOVE_AND_MAKE | RENAME
    if _libc().syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_VERSION) >= 2:
        granted = dict.fromkeys(readable, reading) | {folder: reading | writing}
        _forbid_files(granted, LANDLOCK_FILE_RIGHTS | RENAME)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def allow_cpu(seconds: int) -> None:
    """From now on this many seconds of processor time; then SIGXCPU ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(
        resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard)
    )


def _leave_network() -> None:
    """A network without interfaces: as root, or else in a user namespace, where that is allowed."""
    libc = _libc()
    if libc.unshare(CLONE_NEWNET) != 0:
        libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)


def _forbid_files(granted: Mapping[Path, int], rights: int = LANDLOCK_FILE_RIGHTS) -> None:
    """A Landlock ruleset that handles these rights and grants some of them below folders that there are."""
    libc = _libc()
    handled = ctypes.c_uint64(rights)
    size = ctypes.c_size_t(ctypes.sizeof(handled))
    ruleset = libc.syscall(LANDLOCK_CREATE_RULESET, ctypes.byref(handled), size, 0)
    if ruleset >= 0:
        for folder, some in granted.items():
            _grant(ruleset, folder, some)
        libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0)
        os.close(ruleset)


def _grant(ruleset: int, path: Path, rights: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH)
    except OSError:
        return
    rights = rights if path.is_dir() else rights & (READ_FILE | WRITE_FILE)
    rule = rights.to_bytes(8, sys.byteorder) + beneath.to_bytes(4, sys.byteorder)  # packed: no padding
    _libc().syscall(LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0)
    os.close(beneath)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
