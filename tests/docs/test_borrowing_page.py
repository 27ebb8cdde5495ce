"""docs/borrowing.md has the keys, the states, the floors and the examples that the code has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import yaml
from tests.docs.pages import examples, table, text_of
from tests.docs.spec_tables import declared, differences, documented

from embedmill.cli.matching import NOT_ALL
from embedmill.fleet.baselines import MOST_MIB
from embedmill.fleet.evidence import XIDS
from embedmill.fleet.matching.tables import tables
from embedmill.fleet.matching.versions import dotted, pair, parsed
from embedmill.spec import ImageSpec, load_images_spec
from embedmill.spec.fleet import checked_hours
from embedmill.spec.fleet_reports import GpuState

PAGE = "borrowing.md"
TEXT = text_of(PAGE)


def below(heading: str) -> str:
    """A section, until the next heading of any level."""
    return re.split(r"^#+ ", TEXT.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_every_state_is_explained_and_its_example_begins_with_it() -> None:
    rows = table(PAGE, "Idle")
    assert {state.strip("`") for state, _, _ in rows} == set(get_args(GpuState))
    assert all(example.startswith(state.strip("`")) for state, _, example in rows)


def test_the_xids_of_the_page_are_those_of_the_code() -> None:
    (row,) = (when for state, when, _ in table(PAGE, "Idle") if state == "`unhealthy`")
    assert {int(number) for number in re.findall(r"\d+", row)} == set(XIDS)


def test_the_most_that_is_learnt_is_what_the_code_takes() -> None:
    assert f"up to {MOST_MIB} MiB" in below("How idle is idle")


def test_the_hours_of_the_page_are_hours() -> None:
    hours = re.findall(r"`([^`]*\d\d:\d\d-\d\d:\d\d)`", below("Hours"))
    assert len(hours) == 4
    assert [checked_hours(each) for each in hours] == hours


def test_the_table_of_images_has_every_key() -> None:
    assert differences(documented(table(PAGE, "Images")), declared(ImageSpec)) == {}


def test_the_images_of_the_page_load_and_are_built_with_what_the_tables_say(tmp_path: Path) -> None:
    (block,) = (each for each in examples(PAGE) if each.text.startswith("# images.yaml"))
    (tmp_path / "images.yaml").write_text(block.text)
    images = load_images_spec(tmp_path / "images.yaml").images
    assert list(images) == list(yaml.safe_load(block.text)["images"])
    for image in images.values():
        ((kind, version),) = image.runtimes.items()
        built = tables().framework(kind, parsed(version))
        assert image.cuda is not None
        assert built is not None
        assert {image.cuda, image.cuda.split(".")[0]} & set(built.cuda)
        highest = tables().highest_capability(pair(image.cuda))
        assert highest is not None
        assert all(
            tables().capabilities.lowest[pair(image.cuda)[0]] <= pair(each) <= highest for each in image.sass
        )


def test_the_floors_of_the_page_are_those_of_the_tables() -> None:
    said = below("What decides")
    floors = tables().minor.drivers
    assert (
        f"CUDA 11 from driver 450.80.02, 12 from {dotted(floors[12])}, 13 from {dotted(floors[13])}" in said
    )
    assert floors[11] == parsed("450.80.02")
    lowest = {major: dotted(each) for major, each in tables().capabilities.lowest.items()}
    first = f"CUDA 11 from compute capability {lowest[11]} on, CUDA 12 from {lowest[12]}"
    assert f"{first}, CUDA 13 from {lowest[13]}" in said
    assert f"ends with {NOT_ALL} if" in said


def test_the_last_branches_of_the_page_are_those_of_the_tables() -> None:
    said = below("What decides")
    for each in tables().architectures.names:
        if each.last_driver is not None:
            assert f"R{each.last_driver}" in said
            assert each.name in said
