"""Every GPU of a fleet against every image, and the one that is chosen for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from embedmill.fleet.matching.rules import match
from embedmill.fleet.proofs import Proofs, Trust
from embedmill.spec.fleet_reports import FleetMatch, GpuMatch, ImageVerdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from embedmill.spec.fleet_reports import FleetProbe, ServerProbe
    from embedmill.spec.host import GpuFacts, HostFacts
    from embedmill.spec.images import ImagesSpec


class Place(NamedTuple):
    """What a worker may get: a GPU, or a slice of one in MIG mode."""

    uuid: str
    name: str
    gpu: GpuFacts


def match_fleet(
    probe: FleetProbe,
    images: ImagesSpec,
    proofs: Proofs | None = None,
    *,
    model: str = "",
    runtimes: Collection[str] = (),
) -> FleetMatch:
    """Images in their order of preference, for every GPU of every server that answered, busy or not.

    `model`: the digest of its package, which proofs are kept under; without it nothing is proven.
    `runtimes`: see `match`.

    Raises:
        SpecError: What an image requires is no expression.
        StoreError: Proofs cannot be read.
    """
    trust = Trust(images, proofs, model)
    found = [
        _matched(server.server, place, server.facts, images, trust, runtimes)
        for server in probe.servers
        if server.facts is not None
        for place in _places(server.facts)
    ]
    silent = {server.server: _silence(server) for server in probe.servers if not _gpus(server)}
    return FleetMatch(gpus=tuple(found), unanswered=silent)


def _gpus(server: ServerProbe) -> tuple[GpuFacts, ...]:
    return server.facts.gpus if server.facts is not None else ()


def _silence(server: ServerProbe) -> str:
    return f"{server.state}: {server.reason}" if server.reason else server.state


def _places(facts: HostFacts) -> Iterator[Place]:
    for gpu in facts.gpus:
        if gpu.mig:
            yield from (Place(each.uuid, f"{gpu.name} {each.profile}", gpu) for each in gpu.mig_devices)
        else:
            yield Place(gpu.uuid, gpu.name, gpu)


def _matched(
    server: str,
    place: Place,
    facts: HostFacts,
    images: ImagesSpec,
    trust: Trust,
    runtimes: Collection[str],
) -> GpuMatch:
    verdicts = tuple(
        match(place.gpu, facts, image, name=name, runtimes=runtimes) for name, image in images.images.items()
    )
    chosen, passed_over = trust.choose([each.image for each in verdicts if each.accepted], place.name, facts)
    return GpuMatch(
        server=server,
        index=place.gpu.index,
        uuid=place.uuid,
        name=place.name,
        driver=facts.driver,
        compute_capability=place.gpu.compute_capability,
        chosen=chosen,
        verdicts=verdicts,
        reason=_reason(chosen, verdicts, passed_over),
    )


def _reason(chosen: str | None, verdicts: tuple[ImageVerdict, ...], passed_over: tuple[str, ...]) -> str:
    if chosen is None:
        refused = [f"{each.image}: {each.reason}" for each in verdicts if not each.accepted]
        return "; ".join([*passed_over, *refused])
    (taken,) = (each for each in verdicts if each.image == chosen)
    return "; ".join([taken.reason, *passed_over])
