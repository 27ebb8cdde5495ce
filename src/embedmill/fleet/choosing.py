"""Which idle GPUs to borrow now, within the limits of fleet.yaml, and why not the others.

The largest GPUs first; of equal ones, one of each server before a second one of any, so that little is lost
where a server is wanted back. Where few servers may lend, those with most idle memory do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedmill.fleet.hours import within
from embedmill.words import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from embedmill.spec.fleet import FleetSpec
    from embedmill.spec.fleet_reports import FleetMatch, FleetProbe, GpuVerdict


@dataclass(frozen=True)
class Choice:
    """A GPU that is to be borrowed, or is not; `reason` in words."""

    gpu: GpuVerdict
    taken: bool
    reason: str


def choose(
    verdicts: Iterable[GpuVerdict],
    spec: FleetSpec,
    *,
    now: datetime,
    match: FleetMatch | None = None,
    borrowed: Collection[tuple[str, str]] = (),
) -> tuple[Choice, ...]:
    """Those that are taken in the order in which they should be, then the others; the same for equal facts.

    `match`: only GPUs with an image there. `borrowed`: (server, UUID) of what is borrowed already, which
    counts towards the limits.
    """
    order = {name: place for place, name in enumerate(spec.servers)}
    everything = sorted(
        verdicts, key=lambda each: (order.get(each.server, len(order)), each.index, each.uuid)
    )
    closed = within(spec.limits.never, now, spec.timezone)
    never = f"not taken: nothing is borrowed {closed.words(now)}".rstrip() if closed else ""
    images = None if match is None else {each.uuid for each in match.gpus if each.chosen is not None}
    left = [Choice(each, False, why) for each in everything if (why := never or _why_not(each, images))]
    refused = {id(each.gpu) for each in left}
    ranked = _ranked([each for each in everything if id(each) not in refused])
    limited = list(_within_limits(ranked, spec, borrowed))
    return (
        *(each for each in limited if each.taken),
        *(each for each in limited if not each.taken),
        *left,
    )


def borrowed_now(probe: FleetProbe) -> frozenset[tuple[str, str]]:
    """(server, UUID) of the GPUs, and the slices of some, that runs of Embedmill hold the locks of."""
    leases = {
        (server.server, uuid): lease
        for server in probe.servers
        if server.facts is not None
        for gpu in server.facts.gpus
        for uuid, lease in [(gpu.uuid, gpu.lease), *((each.uuid, each.lease) for each in gpu.mig_devices)]
    }
    return frozenset(place for place, lease in leases.items() if lease is not None)


def _why_not(gpu: GpuVerdict, images: Collection[str] | None) -> str:
    if gpu.state != "idle":
        return f"not taken: {gpu.reason}"
    if images is not None and gpu.uuid not in images:
        return "not taken: no image is for it"
    return ""


def _ranked(idle: Sequence[GpuVerdict]) -> list[GpuVerdict]:
    """By size; equal ones by their rank among those of their server, then in the order of fleet.yaml."""
    seen: Counter[tuple[str, int]] = Counter()
    ranked: list[tuple[int, int, GpuVerdict]] = []
    for gpu in idle:
        ranked.append((-gpu.memory_bytes, seen[gpu.server, gpu.memory_bytes], gpu))
        seen[gpu.server, gpu.memory_bytes] += 1
    return [gpu for _, _, gpu in sorted(ranked, key=lambda each: each[:2])]


def _within_limits(
    ranked: Sequence[GpuVerdict], spec: FleetSpec, borrowed: Collection[tuple[str, str]]
) -> Iterator[Choice]:
    servers = _servers(ranked, spec.limits.servers, {server for server, _ in borrowed})
    servers_limit, gpus_limit = spec.limits.servers or 0, spec.limits.gpus or 0
    left = max(0, gpus_limit - len(borrowed)) if gpus_limit else None
    for gpu in ranked:
        if servers is not None and gpu.server not in servers:
            named = f" ({', '.join(sorted(servers))})" if servers else ""
            yield Choice(gpu, False, f"not taken: limit of {counted(servers_limit, 'server')}{named}")
        elif left == 0:
            yield Choice(gpu, False, f"not taken: limit of {counted(gpus_limit, 'GPU')}")
        else:
            left = None if left is None else left - 1
            yield Choice(gpu, True, gpu.reason)


def _servers(ranked: Sequence[GpuVerdict], limit: int | None, busy: Collection[str]) -> set[str] | None:
    """Servers that may lend: those that do already, then those with most idle memory; None: all may."""
    if limit is None:
        return None
    together: Mapping[str, int] = {
        gpu.server: sum(each.memory_bytes for each in ranked if each.server == gpu.server) for gpu in ranked
    }
    others = sorted((server for server in together if server not in busy), key=lambda each: -together[each])
    return {*busy, *others[: max(0, limit - len(busy))]}
