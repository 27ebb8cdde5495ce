"""Requirements of node labels say just what the rules say of the node's GPU and driver."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
from tests.fleet.facts import gpu, host

from embedmill.engines.kubernetes.manifest import Requirement
from embedmill.errors import SpecError
from embedmill.fleet.matching import match
from embedmill.fleet.matching.labels import node_terms
from embedmill.spec.images import ImageSpec

DIGEST = f"registry.internal/worker@sha256:{'ab' * 32}"
IMAGES = {
    "tensorflow 2.15": {"cuda": "12.2", "sass": ("6.0", "7.0", "8.0", "8.9"), "ptx": ("9.0",)},
    "torch 2.11 cu126": {"cuda": "12.6", "sass": ("5.0", "6.0", "7.0", "7.5", "8.0", "8.6", "9.0")},
    "cu130": {"cuda": "13.0", "sass": ("7.5", "8.0", "8.6", "9.0", "10.0", "12.0"), "ptx": ("12.0",)},
    "tensorflow 2.0": {"cuda": "10.0", "sass": ("3.5", "6.0", "7.0"), "ptx": ("7.0",)},
    "cu118": {"cuda": "11.8", "sass": ("3.5", "5.0", "8.0"), "ptx": ("8.0",)},
}
CAPABILITIES = [
    (3, 5), (5, 0), (5, 2), (6, 0), (6, 1), (7, 0), (7, 2), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0),
    (10, 0), (12, 0),
]  # fmt: skip
DRIVERS = (
    "384.81", "410.47", "410.48", "418.39", "450.80.01", "450.80.02", "470.42.01", "470.256.02", "520.61.05",
    "525.60.12", "525.60.13", "525.147.05", "535.54.02", "535.54.03", "535.183.01", "545.23.06", "550.90.07",
    "560.28.03", "570.26", "580.65.05", "580.65.06", "580.95.05", "590.44.01", "610.43.02",
)  # fmt: skip


def image(name: str) -> ImageSpec:
    return ImageSpec.model_validate({"image": DIGEST, "runtimes": {"onnx": "1.22.0"}, **IMAGES[name]})


def labels(driver: str, capability: tuple[int, int]) -> dict[str, str]:
    """What GPU feature discovery writes; a revision that is not there is an empty text."""
    major, minor, *revision = driver.split(".")
    return {
        "nvidia.com/gpu.compute.major": str(capability[0]),
        "nvidia.com/gpu.compute.minor": str(capability[1]),
        "nvidia.com/cuda.driver-version.major": major,
        "nvidia.com/cuda.driver-version.minor": minor,
        "nvidia.com/cuda.driver-version.revision": "".join(revision),
    }


def is_met(requirement: Requirement, node: Mapping[str, str]) -> bool:
    """As the scheduler does: `Gt` and `Lt` fail where a label is no whole number."""
    key, operator, values = requirement
    found = node.get(key)
    if found is None:
        return False
    if operator == "In":
        return found in values
    if not found.isdigit():
        return False
    (value,) = values
    return int(found) > int(value) if operator == "Gt" else int(found) < int(value)


@pytest.mark.parametrize("name", IMAGES)
def test_terms_and_rules_agree_on_every_driver_and_gpu(name: str) -> None:
    terms = node_terms(image(name))
    agreed = set()
    for driver, capability in itertools.product(DRIVERS, CAPABILITIES):
        node = labels(driver, capability)
        fits = any(all(is_met(each, node) for each in term) for term in terms)
        facts = host(gpu(compute_capability=capability), driver=driver, cuda=None)
        rule = match(facts.gpus[0], facts, image(name)).rule
        assert fits == (rule in {"native", "minor"}), (driver, capability, rule)
        agreed.add(fits)
    assert agreed == {True, False}


@pytest.mark.parametrize("name", IMAGES)
def test_terms_are_few_enough_to_read(name: str) -> None:
    assert len(node_terms(image(name))) <= 18


def test_an_image_for_processors_needs_no_labels() -> None:
    assert node_terms(ImageSpec(image=DIGEST, runtimes={"onnx": "1.22.0"}, device="cpu")) == ()


def test_an_image_that_no_driver_runs_is_named() -> None:
    odd = ImageSpec(image=DIGEST, runtimes={"onnx": "1.22.0"}, cuda="9.9", sass=("7.0",))
    with pytest.raises(SpecError, match=r"^odd: no driver is known to run CUDA 9\.9"):
        node_terms(odd, name="odd")
