"""Turns, medians with their spread, verdicts beside bounds, and how a benchmark tells them."""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BUSY = 0.25
"""Load a core at the start beyond which figures say little."""
WIDEST = {"avx512f": "AVX-512", "avx2": "AVX2"}
"""Flags of /proc/cpuinfo that decide how many multiply-adds a second there can be."""


def machine() -> str:
    """Processor and its widest vectors, cores, Python."""
    from embedmill.planning.calibrate import processor  # not before what is measured has begun

    flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "flags" in line), "")
    widest = next((name for flag, name in WIDEST.items() if flag in flags.split()), "")
    parts = [processor(), widest, f"{os.cpu_count()} cores", f"Python {platform.python_version()}"]
    return ", ".join(part for part in parts if part)


def command() -> str:
    """What was typed to measure, from this folder on; how it was to be told is left out."""
    spec = sys.modules["__main__"].__spec__
    name = "" if spec is None else spec.name.removesuffix(".__main__")
    return shlex.join(["python", "-m", name, *(word for word in sys.argv[1:] if word != "--json")])


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Spread:
    """The median of several runs, and the lowest and highest of them."""

    median: float
    lowest: float
    highest: float
    runs: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one value."""
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1], len(found))

    def per(self, amount: float) -> Spread:
        """Seconds turned into a rate: `amount` a second, so that the slowest run is the lowest rate."""
        return Spread(amount / self.median, amount / self.highest, amount / self.lowest, self.runs)

    def __str__(self) -> str:
        return f"{self.median:,.3g} ({self.lowest:,.3g} to {self.highest:,.3g})"


def seconds_of(work: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turns(
    ways: Mapping[str, Callable[[], float]], rounds: int, *, unmeasured: int = 0
) -> dict[str, Spread]:
    """Let each way measure itself, one after the other, `rounds` times: a busy machine slows all of them.

    `unmeasured` rounds go before, which warm files and caches and do not count.
    """
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(unmeasured + rounds):
        for name, way in ways.items():
            measured = way()
            if number >= unmeasured:
                found[name].append(measured)
    return {name: Spread.of(values) for name, values in found.items()}


@dataclass(frozen=True)
class Verdict:
    """A figure beside its bound: `at_least` or at most `wanted`."""

    what: str
    value: float
    wanted: float
    at_least: bool = True

    @property
    def held(self) -> bool:
        """Whether the bound holds."""
        return self.value >= self.wanted if self.at_least else self.value <= self.wanted

    def __str__(self) -> str:
        bound = f"{'≥' if self.at_least else '≤'} {self.wanted:g}"
        return f"{'holds ' if self.held else 'MISSED'}  {self.what}: {self.value:.4g} (wanted: {bound})"


@dataclass(frozen=True)
class Findings:
    """What a benchmark found: `figures` for programs, `lines` for people, and verdicts for both."""

    schema: str
    figures: Mapping[str, Any]
    lines: Sequence[str]
    verdicts: Sequence[Verdict]

    def tell(self, *, as_json: bool) -> int:
        """Print them; the exit code: 0 where every bound holds."""
        print(json.dumps(self.document(), default=asdict) if as_json else "\n".join(self.page()))
        return 0 if all(verdict.held for verdict in self.verdicts) else 1

    def document(self) -> dict[str, Any]:
        """One JSON document."""
        verdicts = [asdict(verdict) | {"held": verdict.held} for verdict in self.verdicts]
        head = {
            "schema": self.schema,
            "asks": (sys.modules["__main__"].__doc__ or "").splitlines()[0],
            "command": command(),
            "machine": machine(),
            "measured": datetime.now(UTC).date().isoformat(),
            "load": os.getloadavg()[2],
        }
        return head | dict(self.figures) | {"lines": list(self.lines), "verdicts": verdicts}

    def page(self) -> list[str]:
        """Lines for the terminal."""
        return [machine(), "", *self.lines, "", *map(str, self.verdicts)]


def not_run(why: str) -> int:
    """Say what is missing, beside the document that there is none of; the exit code."""
    print(f"not run: {why}", file=sys.stderr)
    return 0


def warned() -> list[str]:
    """A line where the machine has other work: call it before measuring."""
    load = os.getloadavg()[0]
    if load <= BUSY * cores():
        return []
    return [
        f"NOT IDLE: a load of {load:.1f} on {cores()} cores before the start; take no figure from this run"
    ]
