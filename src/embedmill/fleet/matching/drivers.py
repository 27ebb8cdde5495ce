"""Drivers and toolkits: native, by minor-version compatibility, by cuda-compat, or not at all.

native ─no─▶ minor (CUDA 11 and newer; machine code) ─no─▶ forward (cuda-compat; data centres) ─no─▶ refused
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedmill.fleet.matching.architectures import driver_knows, machine_code
from embedmill.fleet.matching.steps import Step
from embedmill.fleet.matching.tables import tables
from embedmill.fleet.matching.versions import Version, dotted, parsed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedmill.spec.fleet_reports import Rule
    from embedmill.spec.images import CompatSpec, ImageSpec

Pair = tuple[int, int]


@dataclass(frozen=True)
class Situation:
    """What the rules need to know: a GPU under a driver, and an image with a toolkit.

    `host_cuda`: the CUDA version that the driver says it has; None where it does not say.
    """

    gpu: str
    brand: str | None
    capability: Pair
    driver_text: str
    driver: Version
    host_cuda: Pair | None
    image: ImageSpec
    cuda: Pair


def rules(situation: Situation) -> Iterator[tuple[Rule, Step]]:
    """Each rule in the order in which they are tried; the first that passes decides."""
    yield "native", native(situation)
    yield "minor", minor(situation)
    yield "forward", forward(situation)


def native(situation: Situation) -> Step:
    """Whether the driver is at least the one that the toolkit ships with."""
    cuda, floor = dotted(situation.cuda), tables().toolkits.drivers.get(situation.cuda)
    if floor is not None:
        passed = situation.driver >= floor
        is_so = "is not older" if passed else "is older"
        return Step(
            passed, f"CUDA {cuda} ships with driver {shown(floor)}, and {situation.driver_text} {is_so}"
        )
    if situation.host_cuda is None:
        return Step(False, f"CUDA {cuda} is in no table, and the driver does not say which CUDA it has")
    passed = situation.host_cuda >= situation.cuda
    has = f"driver {situation.driver_text} has CUDA {dotted(situation.host_cuda)}"
    return Step(passed, f"CUDA {cuda} is in no table; {has}, which is {'not older' if passed else 'older'}")


def minor(situation: Situation) -> Step:
    """Whether the driver is older than the toolkit, but of its major version.

    Such a driver cannot compile the toolkit's PTX (error 222), so the image must have machine code.
    """
    major, cuda = situation.cuda[0], dotted(situation.cuda)
    floor = tables().minor.drivers.get(major)
    if floor is None:
        known = "before CUDA 11 there is no minor-version compatibility"
        return Step(False, known if major < 11 else f"no floor of CUDA {major} is in the tables")
    runs = f"every CUDA {major} runs on driver {shown(floor)} and newer, with fewer features"
    if situation.driver < floor:
        return Step(False, f"{runs}, and {situation.driver_text} is older")
    if machine_code(situation.image, situation.capability) is None:
        capability = dotted(situation.capability)
        return Step(False, f"{runs}, but cannot compile its PTX: no machine code for {capability}")
    return Step(
        True,
        f"{runs}: CUDA {cuda} on {situation.driver_text}",
        f"what CUDA {cuda} has beyond the driver's own is absent (minor-version compatibility)",
    )


def forward(situation: Situation) -> Step:
    """Whether the image's cuda-compat may stand before the driver's libraries."""
    compat = situation.image.compat
    if compat is None:
        return Step(False, "no cuda-compat is in the image")
    if not in_data_centre(situation):
        return Step(False, f"cuda-compat runs on data-centre GPUs, and {situation.gpu} is not known as one")
    version = parsed(compat.driver)
    if version <= situation.driver:
        return Step(False, f"cuda-compat {compat.driver} is not newer than driver {situation.driver_text}")
    for step in (
        _branch(compat, version, situation),
        _enough(compat, version, situation),
        driver_knows(version, situation.capability, "cuda-compat"),
    ):
        if not step.passed:
            return step
    return Step(
        True, f"cuda-compat {compat.driver} runs on branch {situation.driver[0]}, and on {situation.gpu}"
    )


def in_data_centre(situation: Situation) -> bool:
    """Whether cuda-compat is made for the GPU: by its brand, or by its name."""
    brand = (situation.brand or "").lower()
    return brand in tables().data_centre.brands or tables().data_centre_model(situation.gpu) is not None


def _branch(compat: CompatSpec, version: Version, situation: Situation) -> Step:
    """By the ELF note of its libcuda; of an older one without a note: any older branch."""
    host = situation.driver[0]
    if compat.branches:
        listed = ", ".join(map(str, compat.branches))
        passed = host in compat.branches
        return Step(passed, f"cuda-compat {compat.driver} runs on branches {listed}, and this is {host}")
    said = f"cuda-compat {compat.driver} names no branches, so it runs on those before {version[0]}"
    return Step(host < version[0], f"{said}, and this is {host}")


def _enough(compat: CompatSpec, version: Version, situation: Situation) -> Step:
    floor = tables().toolkits.drivers.get(situation.cuda)
    passed = floor is None or version >= floor
    needs = f"CUDA {dotted(situation.cuda)} ships with driver {shown(floor) if floor else '?'}"
    return Step(passed, f"{needs}, and cuda-compat {compat.driver} is {'not older' if passed else 'older'}")


def shown(driver: Version) -> str:
    """A driver's version as NVIDIA writes it: 535.54.03."""
    return ".".join([*map(str, driver[:2]), *(f"{number:02}" for number in driver[2:])])
