"""What the loops of a run did, as parts of a page: a table, and a picture of shards over loops (SVG)."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from embedmill.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from embedmill.spec.platform import RunWorkReport, ShardTime
    from embedmill.spec.reports import WorkerShare

HEAD = (
    *("worker", "place", "shards", "rows", "share", "rows/s", "vectors/s"),
    *("starts", "yields", "retries", "idle, s"),
)
NUMBERS = 2
WIDTH, LEFT, LINE, BAR = 900, 150, 22, 14
"""Pixels: the picture, the column of names, a loop's line and the bars on it."""
MOST_BARS = 2000
"""Beyond it bars that begin in the same pixel of a line are drawn as one."""
NAME = 22
BLUES = ("#2b6cb0", "#63a0d8")
"""Neighbours differ, so that shards can be told apart without gaps."""


def share_row(share: WorkerShare) -> tuple[str, ...]:
    """The cells under HEAD, as text."""
    return (
        share.worker,
        " ".join(filter(None, (share.server, share.type or share.device))),
        *(f"{share.shards:,}", f"{share.rows:,}", f"{share.share:.1%}"),
        *(f"{share.rows_per_s:,.1f}", f"{share.vectors_per_s:,.1f}"),
        *(f"{share.starts:,}", f"{share.yields:,}", f"{share.retries:,}", f"{share.idle_s:,.1f}"),
    )


def timeline(work: RunWorkReport) -> str:
    """A line for each loop, a bar for each shard that it committed; nothing where there is none."""
    if not work.shards:
        return ""
    lines = {share.worker: place for place, share in enumerate(work.workers)}
    height = LINE * len(lines) + 24
    scale = (WIDTH - LEFT - 10) / max(work.seconds, 1e-3)
    parts = [
        f"<svg viewBox='0 0 {WIDTH} {height}' width='100%' role='img' font-size='12' fill='currentColor'>",
        f"<title>Shards over workers: {len(work.shards):,} over {len(lines):,}</title>",
        *_axis(work.seconds, scale, LINE * len(lines)),
        *(_name(worker, place) for worker, place in lines.items()),
        *_bars(work.shards, lines, scale),
        "</svg>",
    ]
    return "".join(parts)


def _name(worker: str, place: int) -> str:
    short = worker if len(worker) <= NAME else f"{worker[: NAME - 1]}…"
    y = place * LINE + BAR
    return f"<text x='0' y='{y}'>{escape(short)}<title>{escape(worker)}</title></text>"


def _axis(seconds: float, scale: float, bottom: int) -> Iterator[str]:
    """Lines at round times, and what they are."""
    step = _round_step(seconds)
    for count in range(int(seconds / step) + 1):
        x = LEFT + count * step * scale
        yield f"<line x1='{x:.1f}' x2='{x:.1f}' y1='0' y2='{bottom}' stroke='#ddd'/>"
        yield f"<text x='{x:.1f}' y='{bottom + 16}' text-anchor='middle'>{_time(count * step)}</text>"


def _round_step(seconds: float) -> float:
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
    return next((step for step in steps if seconds / step <= 8), seconds / 8)


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    if seconds < 3600:
        return f"{seconds / 60:g} min"
    return f"{seconds / 3600:g} h"


def _bars(shards: Sequence[ShardTime], lines: Mapping[str, int], scale: float) -> Iterator[str]:
    counts = dict.fromkeys(lines, 0)
    merged = _merged(shards, scale) if len(shards) > MOST_BARS else [[shard] for shard in shards]
    for together in merged:
        first, last = together[0], together[-1]
        x, y = LEFT + first.begin_s * scale, lines[first.worker] * LINE + 2
        width = max((last.begin_s + last.seconds - first.begin_s) * scale, 0.8)
        colour = BLUES[counts[first.worker] % len(BLUES)]
        counts[first.worker] += 1
        yield (
            f"<rect x='{x:.1f}' y='{y}' width='{width:.1f}' height='{BAR}' fill='{colour}'>"
            f"<title>{escape(_words(together))}</title></rect>"
        )


def _merged(shards: Sequence[ShardTime], scale: float) -> list[list[ShardTime]]:
    pixels: dict[tuple[str, int], list[ShardTime]] = {}
    for shard in shards:
        pixels.setdefault((shard.worker, int(shard.begin_s * scale)), []).append(shard)
    return list(pixels.values())


def _words(shards: Sequence[ShardTime]) -> str:
    first, last = shards[0], shards[-1]
    rows, end_s = sum(shard.rows for shard in shards), last.begin_s + last.seconds
    name = f"shard {first.shard}" if len(shards) == 1 else f"{len(shards):,} shards"
    return f"{name}: {counted(rows, 'row')}, {first.begin_s:,.1f} s to {end_s:,.1f} s"
