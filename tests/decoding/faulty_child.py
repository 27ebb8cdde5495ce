"""A decoding process in which some images find a bug: what a broken decoder does, and what one may do that
was taken over. It is started, confined and spoken to as the real one is; other images are really decoded.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from embedmill.decoding.child import main
from embedmill.decoding.frames import ANSWER, PIXELS, REASON, SIDES
from embedmill.decoding.images import decoded
from embedmill.decoding.recipe import Recipe

MAGIC = b"FAULT "


def faulty(name: str, number: int = 0) -> bytes:
    """An image that finds that bug; `number` makes it another image."""
    return MAGIC + name.encode() + b" %d" % number


def decode(image: memoryview, recipe: Recipe) -> bytes | str:
    data = bytes(image)
    if data.startswith(MAGIC):
        return FAULTS[data.split()[1].decode()]()
    if BROKEN:
        ctypes.string_at(0)
    return decoded(image, recipe)


BROKEN: list[str] = []


def segfault() -> str:
    ctypes.string_at(0)
    return "not reached"


def abort() -> str:
    os.abort()


def leave() -> str:
    os._exit(3)


def leave_well() -> str:
    os._exit(0)


def spin() -> str:
    while True:
        pass


def sleep() -> str:
    time.sleep(3600)
    return "not reached"


def devour() -> str:
    hoard = []
    while True:
        hoard.append(bytearray(64 << 20))


def recurse() -> str:
    def deeper(level: int) -> int:
        return deeper(level + 1) + 1

    return str(deeper(0))


def break_the_next() -> bytes | str:
    BROKEN.append("the heap")
    return "no image, and something is broken"


def say(message: bytes) -> Callable[[], str]:
    def saying() -> str:
        os.write(0, message)
        time.sleep(3600)
        return "not reached"

    return saying


def say_twice() -> str:
    both = ANSWER.pack(REASON, 4) + b"once" + ANSWER.pack(REASON, 5) + b"twice"
    os.write(0, both)  # at once: whoever reads the first sees that there is more
    return "thrice"


def drip() -> str:
    while True:
        os.write(0, b"\0")
        time.sleep(0.05)


def shut() -> str:
    os.close(0)
    time.sleep(3600)
    return "not reached"


def thumbnail(height: int, width: int, pixels: int) -> Callable[[], bytes]:
    """An image of 4 x 4 pixels with a thumbnail that says it has these sides, and has so many pixels."""
    return lambda: bytes(4 * 4 * 3) + SIDES.pack(height, width) + bytes(pixels * 3)


def try_all() -> str:
    """What somebody would do who had taken over the process; says what worked."""
    tries: dict[str, Callable[[], object]] = {
        "read": lambda: Path("/etc/passwd").read_bytes(),
        "list": lambda: os.listdir("/"),  # noqa: PTH208
        "write": lambda: Path("/tmp/escaped").write_bytes(b"x"),
        "make": lambda: Path("/tmp/escaped-folder").mkdir(),
        "connect": lambda: socket.create_connection(("127.0.0.1", 9), 1),
        "socket": socket.socket,
        "run": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),  # noqa: S606
    }
    return " ".join(name for name, attempt in tries.items() if _works(attempt)) or "nothing"


def tell_environment() -> str:
    return " ".join(sorted(os.environ))


def tell_pid() -> str:
    return str(os.getpid())


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


FAULTS: dict[str, Callable[[], bytes | str]] = {
    "segfault": segfault,
    "abort": abort,
    "leave": leave,
    "leave-well": leave_well,
    "spin": spin,
    "sleep": sleep,
    "devour": devour,
    "recurse": recurse,
    "break-the-next": break_the_next,
    "too-many-pixels": say(ANSWER.pack(PIXELS, 0xFFFFFFFF)),
    "too-few-pixels": say(ANSWER.pack(PIXELS, 3) + b"\0" * 3),
    "half-the-pixels": say(ANSWER.pack(PIXELS, 4 * 4 * 3) + b"\0" * 20),
    "a-good-thumbnail": thumbnail(2, 3, 6),
    "a-tall-thumbnail": thumbnail(9, 1, 9),
    "a-wide-thumbnail": thumbnail(1, 9, 9),
    "a-short-thumbnail": thumbnail(3, 3, 8),
    "a-long-thumbnail": thumbnail(3, 3, 10),
    "no-thumbnail": thumbnail(0, 3, 1),
    "a-pickle": say(b"cos\nsystem\n(S'touch /tmp/escaped'\ntR."),
    "a-long-reason": say(ANSWER.pack(REASON, 1 << 30)),
    "no-reason": say(ANSWER.pack(REASON, 0)),
    "a-binary-reason": lambda: "\x1b[31m\n\r\0<script>" + "\ud800",
    "say-twice": say_twice,
    "drip": drip,
    "shut": shut,
    "try-all": try_all,
    "environment": tell_environment,
    "pid": tell_pid,
}

if __name__ == "__main__":
    main(decode)
