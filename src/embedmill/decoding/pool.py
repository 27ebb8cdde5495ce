"""Decoding processes, started at the first image or before; an image that ends one harms no other.

A process has one image at a time, so it is known which one it died of. That image gets a second try, in a
process that never saw another: only then is it to blame, and not what an earlier one broke unnoticed.
"""

from __future__ import annotations

import hashlib
import os
import selectors
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from embedmill.decoding.process import Child, ChildLost, Decoded, DecodingLimits
from embedmill.decoding.recipe import Recipe

MadeT = TypeVar("MadeT")


class Fatal(str):
    """Why there are no pixels of an image that ended its decoder twice; elsewhere it might not."""

    __slots__ = ()


WORTH_A_START = 32
"""Images: in the time that a process needs to start, the others decode about so many."""


class DecoderPool:
    """At most `children` processes. They end with `close`, with this object, or with this process.

    The first image starts one; a further one starts once `WORTH_A_START` images more were decoded.
    """

    def __init__(self, *, children: int = 1, limits: DecodingLimits | None = None) -> None:
        """Start nothing yet; `start` or the first image does."""
        self._most, self._limits = children, limits or DecodingLimits()
        self._idle: list[Child] = []
        self._memory_bytes = 0
        self._answered = 0
        self._lock = threading.Lock()
        self._pid = os.getpid()
        weakref.finalize(self, _end, self._idle, self._pid)

    def start(self, recipe: Recipe, most: int | None = None) -> None:
        """Start all processes now, or so many: images of this recipe then wait for none.

        Raises:
            DecodersFailed: One cannot be started.
        """
        with self._lock:
            self._prepare(recipe)
            while len(self._idle) < min(self._most, most or self._most):
                self._idle.append(Child(self._limits, self._memory_bytes))

    def decode(
        self, images: Sequence[bytes | memoryview], recipe: Recipe, finish: Callable[[int, Decoded], MadeT]
    ) -> list[MadeT | str]:
        """What `finish` makes of each image's number and what came of it, or why nothing did; in order.

        What a decoder says of an image it would say again; `Fatal` may depend on the machine.

        While this process finishes one image, the others decode the next. Threads may share a pool, and wait
        for each other.

        Raises:
            DecodersFailed: No process can be started: that says nothing about the images.
        """
        with self._lock:
            self._prepare(recipe)
            return _Round(self, images, recipe, finish).run()

    def limit(self, children: int) -> None:
        """End all but so many processes; there will be no more."""
        with self._lock:
            self._most = min(self._most, children)
            while len(self._idle) > self._most:
                self._idle.pop().kill()

    def gives(self, busy: int) -> bool:
        """Whether one more image is to be decoded beside so many: by a process that waits, or a new one."""
        started = busy + len(self._idle)
        worth_it = started <= self._answered // WORTH_A_START
        return busy < self._most and (bool(self._idle) or worth_it)

    def close(self) -> None:
        """End the processes; the next image would start new ones."""
        with self._lock:
            _end(self._idle, self._pid)

    def take(self, *, new: bool) -> Child:
        """A process that waits for an image; `new`: that never had one."""
        while self._idle:
            child = self._idle.pop()
            if not new and child.usable:
                return child
            child.kill()
            if new:
                break
        return Child(self._limits, self._memory_bytes)

    def give_back(self, child: Child) -> None:
        """It has answered."""
        self._answered += 1
        self._idle.append(child)

    def _prepare(self, recipe: Recipe) -> None:
        if os.getpid() != self._pid:  # a fork: the processes are its parent's
            self._idle.clear()
            self._pid = os.getpid()
        if recipe.memory_bytes > self._memory_bytes:  # those that run may not have as much
            _end(self._idle, self._pid)
            self._memory_bytes = recipe.memory_bytes


class _Round(Generic[MadeT]):
    """One call of `decode`."""

    def __init__(
        self,
        pool: DecoderPool,
        images: Sequence[bytes | memoryview],
        recipe: Recipe,
        finish: Callable[[int, Decoded], MadeT],
    ) -> None:
        self._pool, self._images, self._recipe, self._finish = pool, images, recipe, finish
        self._waiting = deque(range(len(images)))
        self._suspects: set[int] = set()
        self._busy: dict[Child, int] = {}
        self._unfinished: list[tuple[int, Decoded]] = []
        self._made: dict[int, MadeT | str] = {}

    def run(self) -> list[MadeT | str]:
        try:
            while self._waiting or self._busy:
                while self._waiting and self._pool.gives(len(self._busy)):
                    self._send(self._waiting.popleft())
                self._finish_all()
                for child in _first(self._busy):
                    self._collect(child)
        finally:  # where something was raised: an answer that nobody read would be taken for the next one's
            for child in self._busy:
                child.kill()
        self._finish_all()
        return [self._made[number] for number in range(len(self._images))]

    def _send(self, number: int) -> None:
        child = self._pool.take(new=number in self._suspects)
        self._busy[child] = number
        try:
            child.send(self._images[number], self._recipe)
        except ChildLost as lost:
            self._lost(child, lost)

    def _collect(self, child: Child) -> None:
        try:
            answer = child.answer(self._recipe)
        except ChildLost as lost:
            self._lost(child, lost)
        else:
            number = self._busy.pop(child)
            self._pool.give_back(child)
            if isinstance(answer, str):
                self._made[number] = answer
            else:
                self._unfinished.append((number, answer))

    def _finish_all(self) -> None:
        for number, decoded in self._unfinished:
            self._made[number] = self._finish(number, decoded)
        self._unfinished.clear()

    def _lost(self, child: Child, why: ChildLost) -> None:
        number = self._busy.pop(child)
        if number in self._suspects:
            digest = hashlib.sha256(self._images[number]).hexdigest()
            self._made[number] = Fatal(f"twice {why} (sha256 {digest})")
        else:
            self._suspects.add(number)
            self._waiting.appendleft(number)


def _first(busy: dict[Child, int]) -> list[Child]:
    """Those that answer, or whose answer is overdue; waits until there is one."""
    if len(busy) < 2:
        return list(busy)
    with selectors.DefaultSelector() as selector:
        for child in busy:
            selector.register(child, selectors.EVENT_READ)
        ready = [key.fileobj for key, _ in selector.select(min(child.left_s() for child in busy))]
    return [child for child in busy if child in ready or child.left_s() == 0.0]


def _end(children: list[Child], pid: int) -> None:
    if os.getpid() == pid:
        for child in children:
            child.kill()
    children.clear()
