"""One decoding process, seen from the one that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from embedmill.decoding.frames import (
    ANSWER,
    HELLO,
    LONGEST_REASON,
    OUT_OF_MEMORY,
    PIXELS,
    REASON,
    REQUEST,
    SIDES,
)
from embedmill.decoding.recipe import Recipe
from embedmill.errors import DecodersFailed

Bitmap = npt.NDArray[np.uint8]
"""uint8[H, W, 3]"""


class Decoded(NamedTuple):
    """What came of an image: its pixels, and those of the thumbnail where the recipe wants one."""

    pixels: Bitmap
    thumbnail: Bitmap | None = None


START_S = 60.0
"""Until the hello; a third of a second on an idle machine."""

HANDED_ON = ("LD_LIBRARY_PATH",)
"""Of the environment, which may have secrets, only what a Python needs to start."""

ALWAYS = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}
"""glibc would give memory back to the kernel and take it again for the next image: a third of the time."""


@dataclass(frozen=True)
class DecodingLimits:
    """What one image may take, and the module that decodes.

    `cpu_s` is judged by the kernel. `wall_s` is for what waits instead of computing, and leaves room for
    machines that are busy with something else.
    """

    cpu_s: int = 20
    wall_s: float = 120.0
    module: str = "embedmill.decoding.child"


class ChildLost(Exception):
    """A decoding process gave no answer to an image, or a wrong one, and is gone; the message says how."""


class Child:
    """A decoding process: one image goes in, then its answer comes out."""

    def __init__(self, limits: DecodingLimits, memory_bytes: int) -> None:
        """Start it, and wait until it can decode.

        Raises:
            DecodersFailed: It cannot.
        """
        self._limits, self._memory_bytes = limits, memory_bytes
        self._deadline_s = time.monotonic() + START_S
        self._socket, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = _started(theirs, limits, memory_bytes)
            except OSError as error:
                self._socket.close()
                raise _no_start(str(error)) from error
        self._greet()

    @property
    def usable(self) -> bool:
        """Alive, and has said nothing that it was not asked."""
        try:
            self._socket.settimeout(0)
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return self._process.poll() is None
        except OSError:
            return False
        return False

    def fileno(self) -> int:
        """Readable when it answers."""
        return self._socket.fileno()

    def left_s(self) -> float:
        """Seconds until its answer is overdue."""
        return max(0.0, self._deadline_s - time.monotonic())

    def send(self, image: bytes | memoryview, recipe: Recipe) -> None:
        """Give it an image.

        Raises:
            ChildLost: It does not take it.
        """
        self._deadline_s = time.monotonic() + self._limits.wall_s
        said = recipe.to_bytes()
        try:
            self._socket.settimeout(self._limits.wall_s)
            self._socket.sendall(REQUEST.pack(len(said), len(image)) + said)
            self._socket.sendall(image)
        except OSError as error:  # gone, or it reads no more
            raise ChildLost(self._end()) from error

    def answer(self, recipe: Recipe) -> Decoded | str:
        """What it makes of the image by the recipe that was sent with it, or why there is nothing.

        Raises:
            ChildLost: No answer in time, or one that cannot be.
        """
        kind, length = ANSWER.unpack(self._receive(ANSWER.size))
        if kind == PIXELS and length in lengths(recipe):
            made = sorted_out(self._receive(length), recipe)
            if made is not None:
                return made
        if kind == REASON and 0 < length <= LONGEST_REASON:
            return _one_line(self._receive(length).decode("utf-8", "replace"))
        self.kill()
        raise ChildLost("the decoder's answer makes no sense")

    def kill(self) -> None:
        """End it; it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        self._socket.close()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _greet(self) -> None:
        try:
            hello = self._receive(len(HELLO))
        except ChildLost as lost:
            raise _no_start(str(lost)) from lost
        except BaseException:
            self.kill()
            raise
        if hello != HELLO:
            self.kill()
            raise _no_start("it is another program")
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _receive(self, count: int) -> bytearray:
        content = bytearray(count)
        done = 0
        while done < count:
            try:
                self._socket.settimeout(max(0.001, self.left_s()))
                got = self._socket.recv_into(memoryview(content)[done:])
            except TimeoutError as error:
                self.kill()
                raise ChildLost(f"no answer within {self._limits.wall_s:g} s") from error
            except ConnectionError:
                got = 0
            if got == 0:
                raise ChildLost(self._end())
            done += got
        return content

    def _end(self) -> str:
        """How it ended, for people, once it has closed its side."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        code = self._process.poll()
        words = _last_line(self._process) if code is not None else ""
        self.kill()
        if code is None:
            return "the decoder closed its channel"
        if code == -signal.SIGXCPU:
            return f"more than {self._limits.cpu_s} s of processor time"
        if code == OUT_OF_MEMORY:
            return f"more than {self._memory_bytes >> 20} MiB of memory"
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the decoder ended with {how}{words and ': '}{words}"


def lengths(recipe: Recipe) -> range:
    """How long an answer with pixels can be."""
    height, width = recipe.size
    image = height * width * 3
    if recipe.thumbnail is None:
        return range(image, image + 1)
    return range(image + SIDES.size + 3, image + SIDES.size + recipe.thumbnail**2 * 3 + 1)


def sorted_out(content: bytearray, recipe: Recipe) -> Decoded | None:
    """The bitmaps of an answer of such a length; None where the thumbnail is not of the sides it says."""
    height, width = recipe.size
    image = height * width * 3
    pixels = np.frombuffer(content, np.uint8, image).reshape(height, width, 3)
    if recipe.thumbnail is None:
        return Decoded(pixels)
    down, across = SIDES.unpack_from(content, image)
    rest = np.frombuffer(content, np.uint8, offset=image + SIDES.size)
    if max(down, across) > recipe.thumbnail or len(rest) != down * across * 3:
        return None
    return Decoded(pixels, rest.reshape(down, across, 3))


def _started(channel: socket.socket, limits: DecodingLimits, memory_bytes: int) -> subprocess.Popen[bytes]:
    """A new program, never a fork of this one: threads and open connections do not survive forks."""
    command = [sys.executable, "-P", "-m", limits.module, str(memory_bytes), str(limits.cpu_s)]
    if threading.current_thread() is threading.main_thread():  # other threads may end before the process does
        command.append("die")
    environment = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in sys.path)  # noqa: PTH100
    environment |= ALWAYS
    return subprocess.Popen(
        command,
        stdin=channel.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        cwd="/",
        start_new_session=True,  # Ctrl-C is for this process alone
    )


def _no_start(why: str) -> DecodersFailed:
    return DecodersFailed(
        f"no process that decodes images can be started: {why}",
        hint="it needs some 200 MiB of memory and a free process; then run again",
    )


def _last_line(process: subprocess.Popen[bytes]) -> str:
    """The last words of a process that ended before its hello."""
    if process.stderr is None or process.stderr.closed:
        return ""
    lines = process.stderr.read(1 << 16).decode("utf-8", "replace").strip().splitlines()
    return _one_line(lines[-1]) if lines else ""


def _one_line(text: str) -> str:
    """What may stand in a report, whoever wrote it."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
