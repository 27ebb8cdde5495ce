"""More never becomes less: newer drivers, more machine code and newer GPUs of a kind run what was run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.matching.cases import digest, gpu, host

from embedmill.fleet.matching import match
from embedmill.fleet.matching.tables import tables
from embedmill.fleet.matching.versions import dotted
from embedmill.spec.fleet_reports import ImageVerdict
from embedmill.spec.images import ImageSpec

CAPABILITIES = [
    (3, 7),
    (5, 2),
    (6, 0),
    (6, 1),
    (7, 0),
    (7, 5),
    (8, 0),
    (8, 6),
    (8, 9),
    (9, 0),
    (10, 0),
    (12, 0),
]
TOOLKITS = sorted(tables().toolkits.drivers)
FLOORS = tables().toolkits.drivers.values()
DRIVERS = sorted({each for floor in FLOORS for each in (floor, (floor[0], 1), (floor[0], floor[1] + 5))})
ORDER = ["refused", "forward", "minor", "native"]

drivers = st.sampled_from(DRIVERS)
capabilities = st.sampled_from(CAPABILITIES)
code = st.lists(capabilities, max_size=3)


@dataclass(frozen=True)
class Made:
    """An image without names: what the rules read of it."""

    cuda: tuple[int, int]
    sass: tuple[tuple[int, int], ...]
    ptx: tuple[tuple[int, int], ...]
    compat: str | None = None

    def spec(self, **changed: Any) -> ImageSpec:
        values = {
            "image": digest("made"),
            "runtimes": {"onnx": "1.22.0"},
            "cuda": dotted(self.cuda),
            "sass": tuple(map(dotted, self.sass)),
            "ptx": tuple(map(dotted, self.ptx)),
            "compat": None if self.compat is None else {"driver": self.compat},
        }
        return ImageSpec(**{**values, **changed})


@st.composite
def images(draw: st.DrawFn, *, compat: bool = False) -> Made:
    sass = draw(code)
    ptx = draw(code if sass else st.lists(capabilities, min_size=1, max_size=3))
    newer = dotted(draw(drivers)) if compat else None
    return Made(draw(st.sampled_from(TOOLKITS)), tuple(sass), tuple(ptx), newer)


def verdict(image: ImageSpec, driver: tuple[int, ...], capability: tuple[int, int]) -> ImageVerdict:
    card = gpu("t4", compute_capability=capability)
    return match(card, host(dotted(driver), card), image)


def still_supported(capability: tuple[int, int], driver: tuple[int, ...]) -> bool:
    found = tables().architecture(capability)
    assert found is not None
    return found.last_driver is None or driver[0] <= found.last_driver


@given(images(), drivers, drivers, capabilities)
def test_a_newer_driver_never_refuses_what_an_older_one_ran(
    image: Made, one: tuple[int, ...], other: tuple[int, ...], capability: tuple[int, int]
) -> None:
    older, newer = sorted((one, other))
    if still_supported(capability, newer):
        before = verdict(image.spec(), older, capability)
        after = verdict(image.spec(), newer, capability)
        assert ORDER.index(after.rule) >= ORDER.index(before.rule)


@given(images(compat=True), drivers, drivers, capabilities)
def test_an_older_branch_never_runs_by_cuda_compat_what_a_newer_one_before_it_does_not(
    image: Made, one: tuple[int, ...], other: tuple[int, ...], capability: tuple[int, int]
) -> None:
    older, newer = sorted((one, other))
    before, after = (verdict(image.spec(), each, capability) for each in (older, newer))
    compat_branch = int((image.compat or "0").split(".")[0])
    if before.rule == "forward" and newer[0] < compat_branch:
        assert after.accepted


@given(images(compat=True), drivers, capabilities, code)
def test_more_machine_code_never_refuses_what_ran(
    image: Made, driver: tuple[int, ...], capability: tuple[int, int], more: list[tuple[int, int]]
) -> None:
    before = verdict(image.spec(), driver, capability)
    after = verdict(image.spec(sass=tuple(map(dotted, (*image.sass, *more)))), driver, capability)
    assert ORDER.index(after.rule) >= ORDER.index(before.rule)


@given(images(compat=True), drivers, capabilities)
def test_cuda_compat_never_refuses_what_ran_without_it(
    image: Made, driver: tuple[int, ...], capability: tuple[int, int]
) -> None:
    without = verdict(image.spec(compat=None), driver, capability)
    assert not without.accepted or verdict(image.spec(), driver, capability).rule == without.rule


@given(images(compat=True), drivers, capabilities, capabilities)
def test_a_gpu_of_the_same_major_and_a_higher_minor_runs_what_the_lower_one_ran(
    image: Made, driver: tuple[int, ...], one: tuple[int, int], other: tuple[int, int]
) -> None:
    lower, higher = sorted((one, other))
    if lower[0] == higher[0] and verdict(image.spec(), driver, lower).accepted:
        assert verdict(image.spec(), driver, higher).accepted


@given(images(compat=True), drivers, capabilities)
def test_a_gpu_of_no_data_centre_never_runs_by_cuda_compat(
    image: Made, driver: tuple[int, ...], capability: tuple[int, int]
) -> None:
    card = gpu("rtx3090", compute_capability=capability)
    assert match(card, host(dotted(driver), card), image.spec()).rule != "forward"


@given(images(compat=True), drivers, capabilities)
def test_what_is_accepted_has_code_for_the_gpu(
    image: Made, driver: tuple[int, ...], capability: tuple[int, int]
) -> None:
    found = verdict(image.spec(), driver, capability)
    sass = [each for each in image.sass if each[0] == capability[0] and each <= capability]
    ptx = [each for each in image.ptx if each <= capability]
    assert not found.accepted or sass or (ptx and found.rule != "minor")
    assert found.reason
    assert found.accepted == all(step.startswith("yes: ") for step in found.steps[-1:])
