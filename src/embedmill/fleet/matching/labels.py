"""The nodes of a cluster that an image runs on, as requirements of the labels of GPU feature discovery.

The rules are those of `match`, native and minor, over every compute capability there may be: what they say is
written down as terms. `forward` is left to the container runtime of the nodes, which does it by itself.

Labels (NVIDIA/k8s-device-plugin, docs/gpu-feature-discovery): `nvidia.com/gpu.compute.major|minor`,
`nvidia.com/cuda.driver-version.major|minor|revision`. `Gt` and `Lt` compare whole numbers, so that `06` is 6.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from embedmill.engines.kubernetes.manifest import Requirement
from embedmill.errors import SpecError
from embedmill.fleet.matching.architectures import intermediate_code, machine_code, toolkit_knows
from embedmill.fleet.matching.tables import tables
from embedmill.fleet.matching.versions import Version, pair

if TYPE_CHECKING:
    from embedmill.spec.images import ImageSpec

COMPUTE, DRIVER = "nvidia.com/gpu.compute", "nvidia.com/cuda.driver-version"
MAJORS, MINORS = range(3, 16), range(10)
"""Compute capabilities that are asked for: up to ones that do not exist yet."""
Term = tuple[Requirement, ...]


class _Needs(NamedTuple):
    """Of the driver, for one compute capability: at least `floor`, and no newer branch than `last`."""

    floor: Version
    last: int | None


def node_terms(image: ImageSpec, *, name: str = "") -> tuple[Term, ...]:
    """A node fits if it meets all requirements of one term; none where the image needs no GPU.

    Raises:
        SpecError: No GPU runs it, or it is not known which drivers do.
    """
    if image.device == "cpu":
        return ()
    if image.cuda is None:
        raise SpecError(f"{name or image.image}: has no CUDA, and its `device` is not cpu")
    minors: dict[tuple[_Needs, int], list[int]] = defaultdict(list)
    for major in MAJORS:
        for minor in MINORS:
            needs = _needs(image, pair(image.cuda), (major, minor))
            if needs is not None:
                minors[needs, major].append(minor)
    majors: dict[tuple[_Needs, tuple[int, ...]], list[int]] = defaultdict(list)
    for (needs, major), found in minors.items():
        majors[needs, tuple(found)].append(major)
    terms = [
        (*_capabilities(alike, found), *driver)
        for (needs, found), alike in majors.items()
        for driver in _drivers(needs)
    ]
    if not terms:
        raise SpecError(f"{name or image.image}: no driver is known to run CUDA {image.cuda} for its GPUs")
    return tuple(terms)


def _needs(image: ImageSpec, cuda: tuple[int, int], capability: tuple[int, int]) -> _Needs | None:
    """What a GPU's driver must be; None where no driver helps. PTX needs the driver of its own toolkit."""
    has_machine_code = machine_code(image, capability) is not None
    if not has_machine_code and intermediate_code(image, capability) is None:
        return None
    if not toolkit_knows(cuda, capability).passed:
        return None
    native = tables().toolkits.drivers.get(cuda)
    minor = tables().minor.drivers.get(cuda[0]) if has_machine_code else None
    floors = [floor for floor in (native, minor) if floor is not None]
    if not floors:
        return None
    found = tables().architecture(capability)
    return _Needs(min(floors), found.last_driver if found else None)


def _capabilities(majors: list[int], minors: tuple[int, ...]) -> Term:
    found = (Requirement(f"{COMPUTE}.major", "In", tuple(map(str, majors))),)
    if minors == tuple(MINORS):
        return found
    return (*found, Requirement(f"{COMPUTE}.minor", "In", tuple(map(str, minors))))


def _drivers(needs: _Needs) -> Iterator[Term]:
    """At least the floor, written as: a newer branch; or this one and …"""
    major, minor, revision = (*needs.floor, 0, 0)[:3]
    until = (_below("major", needs.last + 1),) if needs.last is not None else ()
    if needs.last is None or major < needs.last:
        yield (_above("major", major), *until)
    if needs.last is not None and major > needs.last:
        return
    this = Requirement(f"{DRIVER}.major", "In", (str(major),))
    if not revision:
        yield (this, _above("minor", minor - 1)) if minor else (this,)
        return
    yield (this, _above("minor", minor))
    yield (this, _above("minor", minor - 1), _below("minor", minor + 1), _above("revision", revision - 1))


def _above(part: str, number: int) -> Requirement:
    return Requirement(f"{DRIVER}.{part}", "Gt", (str(number),))


def _below(part: str, number: int) -> Requirement:
    return Requirement(f"{DRIVER}.{part}", "Lt", (str(number),))
