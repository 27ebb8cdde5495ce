"""The tables: they are shipped, name their sources, and say of versions what the facts say."""

from __future__ import annotations

import itertools
from importlib.resources import files
from typing import Any, get_args

import pytest
import yaml
from tests.fleet.matching.cases import digest, gpu, host, image

from embedmill.fleet.matching import match
from embedmill.fleet.matching.tables import Tables, tables
from embedmill.fleet.matching.versions import dotted, pair, parsed
from embedmill.spec.images import ImageSpec
from embedmill.spec.runtimes import RUNTIMES


def written() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(
        files("embedmill.fleet.matching").joinpath("tables.yaml").read_text("utf-8")
    )
    return found


def test_every_section_names_its_source() -> None:
    sections = written()
    frameworks = sections.pop("frameworks")
    assert all(len(each["source"]) > 20 for each in (*sections.values(), *frameworks.values()))


def test_a_misspelt_table_is_not_taken() -> None:
    with pytest.raises(ValueError, match="drivres"):
        Tables.model_validate({**written(), "minor": {"source": "somewhere", "drivres": {}}})


def test_drivers_grow_with_their_toolkits_and_no_floor_is_above_a_native_driver() -> None:
    drivers = tables().toolkits.drivers
    assert [drivers[cuda] for cuda in sorted(drivers)] == sorted(drivers.values())
    for major, floor in tables().minor.drivers.items():
        # CUDA 11.0 came with 450.51.05, before the floor: it is the one that is older.
        natives = [driver for cuda, driver in drivers.items() if cuda[0] == major and cuda != (11, 0)]
        assert floor <= min(natives)


def test_every_major_version_of_a_toolkit_is_in_every_table() -> None:
    majors = {cuda[0] for cuda in tables().toolkits.drivers}
    assert majors == set(tables().capabilities.lowest)
    assert majors - {10} == set(tables().minor.drivers)
    assert all(tables().highest_capability(cuda) for cuda in tables().toolkits.drivers)


def test_architectures_follow_each_other_without_overlap() -> None:
    found = tables().architectures.names
    assert [each.first for each in found] == sorted(each.first for each in found)
    assert all(one.last < other.first for one, other in itertools.pairwise(found))
    assert all(tables().architecture(capability) for capability in tables().data_centre.names.values())


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("A100-PCIE-40GB", "A100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA T400 4GB", None),
        ("NVIDIA T1000", None),
        ("NVIDIA RTX A6000", None),
        ("NVIDIA GeForce RTX 3090", None),
        ("Quadro P4000", None),
        ("NVIDIA TITAN V", None),
        ("", None),
    ],
)
def test_data_centre_gpus_are_known_by_their_names(name: str, model: str | None) -> None:
    assert tables().data_centre_model(name) == model


@pytest.mark.parametrize(
    ("driver", "cuda"),
    [("535.183.01", (12, 2)), ("450.51.05", (11, 0)), ("569.99", (12, 6)), ("390.157", None)],
)
def test_a_driver_is_of_the_newest_toolkit_that_it_runs(driver: str, cuda: tuple[int, int] | None) -> None:
    assert tables().cuda_of(parsed(driver)) == cuda


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("535.183.01", (535, 183, 1)),
        ("2.11.0+cu126", (2, 11)),
        ("v1.22.0", (1, 22)),
        ("12.0", (12,)),
        ("0", (0,)),
    ],
)
def test_versions_are_the_numbers_that_they_begin_with(text: str, numbers: tuple[int, ...]) -> None:
    assert parsed(text) == numbers


@pytest.mark.parametrize("text", ["", "latest", ".5"])
def test_what_is_no_version_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not a version"):
        parsed(text)


def test_pairs_have_a_minor_number() -> None:
    assert [pair(text) for text in ("12", "12.0", "12.2.1", "8.6")] == [(12, 0), (12, 0), (12, 2), (8, 6)]
    assert dotted((12, 10)) == "12.10"


def test_frameworks_are_kinds_of_runtime() -> None:
    kinds = {word for kind in RUNTIMES for word in get_args(kind.model_fields["kind"].annotation)}
    assert set(tables().frameworks) <= kinds


@pytest.mark.parametrize(
    ("kind", "version", "cuda", "said"),
    [
        ("tensorflow", "2.15.0", "11.8", "tensorflow 2.15.0 is built with CUDA 12.2 and cuDNN 8.9"),
        ("torch", "2.11.0+cu126", "11.8", "torch 2.11.0+cu126 is built with CUDA 12.6 or 12.8 or 13.0"),
        ("onnx", "1.22.0", "11.8", "onnx 1.22.0 is built with CUDA 12 and cuDNN 9"),
        ("onnx", "1.17.3", "12.2", "onnx 1.17.3 is built with CUDA 11.8 and cuDNN 8"),
        ("tf_serving", "2.20.0", "11.8", "tf_serving 2.20.0 is built with CUDA 12.5"),
        ("triton", "25.08", "11.8", "triton 25.08 is built with CUDA 12.9 or 13.0"),
    ],
)
def test_a_toolkit_of_another_major_than_the_framework_is_warned_of(
    kind: str, version: str, cuda: str, said: str
) -> None:
    card = gpu("t4")
    made = ImageSpec(image=digest("made"), runtimes={kind: version}, cuda=cuda, sass=("7.5",))
    assert [said in each for each in match(card, host("580.65.06", card), made).warnings] == [True]


@pytest.mark.parametrize(
    "runtimes", [{"tensorflow": "2.15.0"}, {"tensorflow": "99.0"}, {"jax": "0.10"}, {"onnx": "nightly"}]
)
def test_a_toolkit_that_fits_or_of_which_nothing_is_known_is_not_warned_of(runtimes: dict[str, str]) -> None:
    card = gpu("t4")
    made = image("tf-2.15", runtimes=runtimes)
    assert match(card, host("580.65.06", card), made).warnings == ()
