"""Compute capabilities: does the toolkit know the GPU, does the driver, and is there code for it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.fleet.matching.steps import Step
from embedmill.fleet.matching.tables import tables
from embedmill.fleet.matching.versions import Version, dotted, pair

if TYPE_CHECKING:
    from embedmill.spec.images import ImageSpec

Pair = tuple[int, int]


def named(capability: Pair) -> str:
    """Such as `compute capability 7.0 (Volta)`."""
    found = tables().architecture(capability)
    return f"compute capability {dotted(capability)}{f' ({found.name})' if found else ''}"


def toolkit_knows(cuda: Pair, capability: Pair) -> Step:
    """Whether the libraries of a toolkit may have code for a GPU.

    A newer GPU than the toolkit knows may run what is in the image, if the image's own code does; libraries
    such as cuDNN have code of their own, which nobody declares.
    """
    lowest = tables().capabilities.lowest.get(cuda[0])
    highest = tables().highest_capability(cuda)
    if lowest is None or highest is None:
        return Step(True, f"nothing is known of the GPUs of CUDA {dotted(cuda)}", "its GPUs are in no table")
    knows = f"CUDA {dotted(cuda)} knows compute capabilities {dotted(lowest)} to {dotted(highest)}"
    if capability < lowest:
        return Step(False, f"{knows}, and this is {named(capability)}")
    if capability[0] > highest[0]:
        return Step(
            True,
            f"{knows}; {dotted(capability)} is newer",
            f"CUDA {dotted(cuda)} is older than {named(capability)}: its libraries may have no code for it",
        )
    return Step(True, knows)


def driver_knows(driver: Version, capability: Pair, what: str = "driver") -> Step:
    """Whether a branch of drivers still supports a GPU; `what` it is the version of."""
    found = tables().architecture(capability)
    if found is None or found.last_driver is None:
        return Step(True, f"{what} {driver[0]} supports {named(capability)}")
    last = f"R{found.last_driver} is the last branch of drivers for {found.name}"
    if driver[0] > found.last_driver:
        return Step(False, f"{last}, and {what} {driver[0]} is newer")
    return Step(True, f"{last}, and {what} {driver[0]} is not newer")


def machine_code(image: ImageSpec, capability: Pair) -> Pair | None:
    """What of an image's machine code (SASS) a GPU runs: its major's, up to its minor."""
    fitting = [each for each in map(pair, image.sass) if each[0] == capability[0] and each <= capability]
    return max(fitting, default=None)


def intermediate_code(image: ImageSpec, capability: Pair) -> Pair | None:
    """What of an image's PTX a driver can compile for a GPU: of any older compute capability."""
    return max((each for each in map(pair, image.ptx) if each <= capability), default=None)


def has_code(image: ImageSpec, capability: Pair) -> Step:
    """Whether there is code in the image that a GPU runs, or that its driver can compile for it."""
    sass, ptx = machine_code(image, capability), intermediate_code(image, capability)
    if sass is not None:
        return Step(True, f"machine code for {dotted(sass)} runs on compute capability {dotted(capability)}")
    if ptx is not None:
        return Step(
            True,
            f"no machine code for {named(capability)}, but PTX of {dotted(ptx)}",
            f"the driver compiles PTX of {dotted(ptx)} at the first start in each new container: slow",
        )
    has = ", ".join([*image.sass, *(f"{each}+PTX" for each in image.ptx)])
    return Step(False, f"no code for {named(capability)}: the image has {has}")
