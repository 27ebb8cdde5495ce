"""What a decoding process may no longer do. Linux; whatever a kernel does not know is left out.

The limits of memory, processor time and files hold everywhere. Landlock (Linux 5.13) and a network namespace
of its own make it hold against code that runs in a broken decoder as well.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
"""System calls, on every architecture."""

LANDLOCK_FILE_RIGHTS = (1 << 13) - 1
"""Reading, writing, executing, making and removing: the 13 rights that its first version knows."""


def die_with_parent() -> None:
    """End when the thread that started this process does, whatever it is doing."""
    _libc().prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def confine(memory_bytes: int) -> None:
    """No files, no network, no processes, no more memory: for good."""
    _libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _leave_network()
    _forbid_files()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    _, allowed = resource.getrlimit(resource.RLIMIT_AS)
    memory_bytes = memory_bytes if allowed == resource.RLIM_INFINITY else min(memory_bytes, allowed)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, 1))  # 0 is the channel: nothing can be opened beside it


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


def _forbid_files() -> None:
    """A Landlock ruleset that handles every right and grants none."""
    libc = _libc()
    handled = ctypes.c_uint64(LANDLOCK_FILE_RIGHTS)
    size = ctypes.c_size_t(ctypes.sizeof(handled))
    ruleset = libc.syscall(LANDLOCK_CREATE_RULESET, ctypes.byref(handled), size, 0)
    if ruleset >= 0:
        libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0)
        os.close(ruleset)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
