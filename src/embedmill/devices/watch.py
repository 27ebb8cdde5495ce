"""Is somebody else on a GPU that we borrow? The rules, as functions of what was seen.

NVML knows processes by the host's pids. Where ours are among those that we see, a process that is not ours is
somebody else. In a container it shows none, or numbers that mean nothing there: then only memory tells, and
only where it is known how much we take at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

MIB = 2**20
IN_A_ROW = 2
"""Samples that must agree: a process that has just ended may be in a list once more."""
BLIND_S = 8.0
"""How long a GPU may be out of sight: what is not known to be ours is given back."""


class Occupant(NamedTuple):
    """A process with a context on a GPU. `used_bytes` None: not told."""

    pid: int
    name: str
    used_bytes: int | None = None


class Sample(NamedTuple):
    """A GPU at one moment. `utilisation` in percent; None: not told."""

    processes: tuple[Occupant, ...]
    used_bytes: int
    utilisation: int | None = None


class Limits(NamedTuple):
    """What may be on a GPU beside us.

    `baseline_bytes` None: what the first sample has beyond what is ours. `exempt`: beginnings of names of
    programs. `own_bytes`: the most that we take, where pids do not tell; None: not known.
    """

    baseline_bytes: int | None = None
    margin_bytes: int = 500 * MIB
    exempt: tuple[str, ...] = ()
    pids_tell: bool = True
    own_bytes: int | None = None


def stranger(sample: Sample, own: frozenset[int], limits: Limits) -> str:
    """Who else is on the GPU, in words; empty if nobody is, or if it cannot be told."""
    for each in sample.processes if limits.pids_tell else ():
        if each.pid not in own and not is_exempt(each.name, limits.exempt):
            return f"pid {each.pid} ({each.name}) came"
    taken = _own_bytes(sample, own, limits)
    return "" if taken is None else _beyond(sample, taken, limits)


def too_busy(sample: Sample, limits: Limits, utilisation: int) -> str:
    """Why a GPU that nobody of ours is on yet is not idle, in words; empty if it is."""
    found = stranger(sample, frozenset(), limits._replace(own_bytes=0))
    if found or sample.utilisation is None or sample.utilisation <= utilisation:
        return found.replace(" came", " is there")
    return f"it computes: {sample.utilisation} % of the time, at most {utilisation} % is idle"


def is_exempt(name: str, exempt: Sequence[str]) -> bool:
    """Whether a program may have a GPU open beside us, by its name or path."""
    return name.rsplit("/", 1)[-1].startswith(tuple(exempt))


def _own_bytes(sample: Sample, own: frozenset[int], limits: Limits) -> int | None:
    """What is ours of the memory in use; None if it cannot be told."""
    if not limits.pids_tell:
        return limits.own_bytes
    ours = [each.used_bytes for each in sample.processes if each.pid in own]
    known = [used for used in ours if used is not None]
    return sum(known) if len(known) == len(ours) else None


def _beyond(sample: Sample, own_bytes: int, limits: Limits) -> str:
    beyond = sample.used_bytes - (limits.baseline_bytes or 0) - own_bytes
    if beyond <= limits.margin_bytes:
        return ""
    return f"{beyond // MIB} MiB are in use that are not ours"


class Suspicion:
    """What was seen of one GPU, sample after sample."""

    def __init__(self, uuid: str, limits: Limits, now_s: float) -> None:
        """Nothing was seen yet."""
        self._uuid, self._limits = uuid, limits
        self._in_a_row, self._seen_s = 0, now_s

    def hear(self, sample: Sample, own: frozenset[int], now_s: float) -> str:
        """A sample; returns why the GPU is to be given back, in words, or nothing."""
        self._seen_s = now_s
        self._learn(sample, own)
        found = stranger(sample, own, self._limits)
        self._in_a_row = self._in_a_row + 1 if found else 0
        return f"{self._uuid}: {found}" if found and self._in_a_row >= IN_A_ROW else ""

    def _learn(self, sample: Sample, own: frozenset[int]) -> None:
        """Where nobody said what an idle GPU has in use: what there is at first, while we take little."""
        if self._limits.baseline_bytes is None:
            known = _own_bytes(sample, own, self._limits) if self._limits.pids_tell else 0
            self._limits = self._limits._replace(baseline_bytes=sample.used_bytes - (known or 0))

    def know_own(self, own_bytes: int) -> None:
        """The most that we take, which is known only now."""
        self._limits = self._limits._replace(own_bytes=own_bytes)

    def blind(self, now_s: float, why: str) -> str:
        """No sample; returns why the GPU is to be given back, in words, or nothing."""
        blind_s = now_s - self._seen_s
        return f"{self._uuid}: out of sight for {blind_s:.0f} s: {why}" if blind_s >= BLIND_S else ""
