"""What worker loops did, and how they stand, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.cli.output import duration, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from embedmill.spec.loops import LoopState
    from embedmill.spec.reports import WorkerShare

SILENT_BEATS = 3
"""Whose signs of life are late by so many is told of: a busy machine delays one, not three."""


def shares_table(shares: Sequence[WorkerShare]) -> Table:
    """What each loop on another server did."""
    rows = [
        (
            *(share.worker, share.type or share.device, share.image),
            *(f"{share.shards:,}", f"{share.vectors:,}", f"{share.vectors_per_s:,.0f}"),
        )
        for share in shares
    ]
    names = ("worker", "GPU", "image", "shards", "vectors", "vectors/s")
    return table(*names, rows=rows, numbers=[3, 4, 5])


def loops_table(loops: Sequence[LoopState]) -> Table:
    """How many seconds the stages of each loop were busy, and which of them the others wait for."""
    stages = list(loops[0].stages)
    rows = [
        (
            *(loop.worker, loop.shard or "-", loop.bottleneck or "-"),
            *(f"{loop.stages.get(stage, 0.0):,.1f}" for stage in stages),
        )
        for loop in loops
    ]
    names = ("worker", "shard", "busiest", *(f"{stage} s" for stage in stages))
    return table(*names, rows=rows, numbers=range(3, len(names)))


def with_small_batches(loops: Sequence[LoopState]) -> Iterator[str]:
    """A line for each loop whose memory was too short for batches as large as planned."""
    for loop in loops:
        if loop.smaller:
            sizes = ", ".join(f"{name} {size}" for name, size in loop.smaller.items())
            yield f"{loop.worker}: memory was too short, so its batches are smaller: {sizes}"


def silent(loops: Sequence[LoopState]) -> Iterator[str]:
    """A line for each loop that has work in hand, and gave no sign of life for a while.

    Whether it is gone is not known: the clock of this machine may be ahead of the store's.
    """
    from embedmill.spec.loops import BEAT_S

    for loop in loops:
        if loop.silent_s is not None and loop.silent_s >= SILENT_BEATS * BEAT_S:
            last = f"its last sign of life was {duration(loop.silent_s)} ago, of one every {BEAT_S:.0f} s"
            yield f"{loop.worker}: {last}, if this machine's clock and the store's agree"
