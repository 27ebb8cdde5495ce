"""How far a run is: bars on a terminal, a line every few seconds elsewhere; always on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Protocol

from embedmill.cli.output import duration, size
from embedmill.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedmill.spec.documents import Plan
    from embedmill.types import Progress

LINE_EVERY_S = 5.0
STILL_S = 5.0
BYTES = "bytes"


class Reporter(Protocol):
    """Hears of progress, and of the plan once there is one."""

    def __call__(self, progress: Progress) -> None:
        """Show how far a stage is."""
        ...

    def planned(self, plan: Plan, *, resumed: bool) -> None:
        """Say what is going to happen."""
        ...


@contextlib.contextmanager
def reporting(*, quiet: bool) -> Iterator[Reporter]:
    """A reporter that suits stderr."""
    if quiet:
        yield Silent()
    elif sys.stderr.isatty():
        from embedmill.cli.bars import showing_bars

        with showing_bars() as bars:
            yield bars
    else:
        yield Lines()


def announcement(plan: Plan, *, resumed: bool) -> str:
    """One sentence on what a run is about to do."""
    going = "going on with" if resumed else "planned"
    seconds = plan.estimate.seconds
    expected = f", about {duration(seconds)}" if seconds else ""
    return (
        f"{going} {plan.run}: {counted(plan.items.total, 'item')}, "
        f"{counted(plan.compute, 'vector')} to compute, {plan.reused_vectors:,} reused{expected}"
    )


class Stillness:
    """Says what workers are at once nothing was done for some seconds: it looks like a run that hangs."""

    def __init__(self) -> None:
        """Nothing was done yet."""
        self._at = ("", -1)
        self._since_s = 0.0

    def said(self, progress: Progress, now_s: float) -> str:
        """Such as `nothing new for 12 s, busiest: fetch`; empty while work goes on, or nobody told."""
        at = (progress.stage, progress.done)
        if at != self._at:
            self._at, self._since_s = at, now_s
        still_s = now_s - self._since_s
        if not progress.busiest or still_s < STILL_S or progress.done == progress.total:
            return ""
        return f"nothing new for {duration(still_s)}, busiest: {progress.busiest}"


class Silent:
    """Says nothing."""

    def __call__(self, progress: Progress) -> None:
        """Nothing."""

    def planned(self, plan: Plan, *, resumed: bool) -> None:
        """Nothing."""


class Lines:
    """Plain lines for logs: one when a stage starts, one every few seconds, one when it is complete."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        self._clock = clock
        self._stage = ""
        self._started = self._told = 0.0
        self._first = self._reused = 0
        self._stillness = Stillness()

    def planned(self, plan: Plan, *, resumed: bool) -> None:
        """Say what is going to happen."""
        self._reused = plan.reused_vectors
        _say(announcement(plan, resumed=resumed))

    def __call__(self, progress: Progress) -> None:
        """Print a line if one is due; a note always."""
        if progress.note:
            _say(f"{progress.stage}: {progress.note}")
            return
        now = self._clock()
        still = self._stillness.said(progress, now)
        begins = progress.stage != self._stage
        if begins:
            self._stage, self._started, self._first = progress.stage, now, progress.done
        complete = progress.total is not None and progress.done >= progress.total
        if begins or complete or now - self._told >= LINE_EVERY_S:
            self._told = now
            line = self._line(progress, now - self._started)
            _say(f"{line}; {still}" if still else line)

    def _line(self, progress: Progress, elapsed: float) -> str:
        if progress.unit == "steps":
            return progress.stage
        done = amount(progress.done, progress.unit)
        if progress.total is not None:
            done = f"{done} of {amount(progress.total, progress.unit)}"
        parts = [f"{progress.stage}: {done}{_unit(progress)}"]
        speed = (progress.done - self._first) / elapsed if elapsed > 0 else 0.0
        if speed > 0:
            parts.append(f"{amount(round(speed), progress.unit)}/s")
            if progress.total is not None and progress.done < progress.total:
                parts.append(f"{duration((progress.total - progress.done) / speed)} left")
        if progress.stage == "embed":
            parts.append(f"{self._reused:,} reused, {progress.failed:,} failed")
        return ", ".join(parts)


def amount(count: int, unit: str) -> str:
    """A count of bytes as people say it; of anything else the plain number."""
    return size(count) if unit == BYTES else f"{count:,}"


def _unit(progress: Progress) -> str:
    """What follows the amount: nothing where that says it already."""
    if progress.unit == BYTES:
        return ""
    count = progress.done if progress.total is None else progress.total
    return f" {progress.unit.removesuffix('s') if count == 1 else progress.unit}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
