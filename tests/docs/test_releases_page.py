"""docs/releases.md says what a release holds, what is checked, and what is not seen."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from tests.decoding.pictures import RED, encoded, plain
from tests.docs.pages import table, text_of, unquoted
from tests.models import tiny_mixed_package
from tests.support.mill import Mill, items

from embedmill import Release
from embedmill.catalog.images import MAX_IMAGE_BYTES
from embedmill.decoding.images import FORMATS
from embedmill.errors import GateFailed, ReleaseCorrupt
from embedmill.gates import GATES, OVERRIDABLE
from embedmill.gates.vectors import NORM_TOLERANCE, SAME_ROWS
from embedmill.release.admin import verify
from embedmill.release.export import PART_ITEMS
from embedmill.release.items import OWN_COLUMNS
from embedmill.release.quarantine import QUARANTINE_SCHEMA
from embedmill.spec import GateLimits
from embedmill.types import Reason

PAGE = "releases.md"


def test_the_table_of_the_folder_has_all_that_is_in_a_release(mill: Mill, tmp_path: Path) -> None:
    mill.model = tiny_mixed_package(tmp_path / "mixed")
    mill.schema = pa.schema([("sku", pa.string()), ("title", pa.string()), ("image", pa.string())])
    (mill.root / "red.png").write_bytes(encoded(plain(RED)))
    catalog = {"source": "items.parquet", "id": "sku", "thumbnails": 16}
    mill.settings = {"catalog": catalog, "index": {"exact_below": 1}}
    mill.run([{"sku": "red", "title": "red", "image": "red.png"}, {"sku": "none", "title": "none"}])
    there = {path.name for path in mill.live().folder.iterdir()}
    rows = {unquoted(path): what for path, what in table(PAGE, "What is in the folder")}
    assert set(rows) == there
    assert all(f"`{column}`" in rows["items"] for column in OWN_COLUMNS)


def test_the_folder_stands_alone(mill: Mill, tmp_path: Path) -> None:
    mill.run(items(8))
    copy = shutil.copytree(mill.live().folder, tmp_path / "copy")
    shutil.rmtree(tmp_path / "mill")
    assert Release.open(copy).search("item 3", k=1)[0].id == "s3"


def test_every_reason_of_the_quarantine_is_in_the_table() -> None:
    rows = {unquoted(reason): what for reason, what in table(PAGE, "Quarantine")}
    assert list(rows) == list(Reason)
    assert re.findall(r"[A-Z]{3,4}", rows["image-invalid"]) == list(FORMATS)
    assert f"{MAX_IMAGE_BYTES >> 20} MiB" in rows["image-too-large"]
    section = text_of(PAGE).split("\n## Quarantine\n")[1]
    assert [name for name in QUARANTINE_SCHEMA.names if f"`{name}`" not in section] == []


def test_every_gate_is_in_the_table_with_its_limit_and_whether_it_may_be_accepted() -> None:
    rows = table(PAGE, "Gates")
    assert [unquoted(gate) for gate, *_ in rows] == list(GATES)
    assert {unquoted(gate) for gate, _, _, accept in rows if accept == "yes"} == OVERRIDABLE
    assert {unquoted(limit) for _, _, limit, _ in rows if limit} == {
        f"gates.{name}" for name in GateLimits.model_fields
    }
    fails = {unquoted(gate): what for gate, what, _, _ in rows}
    assert f"by more than {NORM_TOLERANCE:g}" in fails["norms"]
    assert (SAME_ROWS, "ten or more" in fails["non-constant"]) == (10, True)


def test_an_exports_parts_are_as_large_as_the_page_says() -> None:
    assert f"{PART_ITEMS:,} items" in text_of(PAGE)


def flip_a_bit_unseen(file: Path) -> None:
    """As a failing disk does: size, time and inode stay."""
    before = file.stat()
    file.chmod(0o644)
    with file.open("r+b") as stream:
        stream.seek(-200, os.SEEK_END)
        byte = stream.read(1)
        stream.seek(-200, os.SEEK_END)
        stream.write(bytes([byte[0] ^ 1]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_stamp_hides_what_only_verify_finds_and_then_no_more(mill: Mill) -> None:
    mill.run(items(8))
    release = mill.live()
    flip_a_bit_unseen(next((release.folder / "vectors").rglob("*.arrow")))
    assert mill.live().name == release.name
    with pytest.raises(ReleaseCorrupt):
        verify(mill.home, release.name)
    with pytest.raises(ReleaseCorrupt):
        mill.live()


def test_releases_share_the_files_that_stay(mill: Mill) -> None:
    mill.run(items(8))
    first = mill.live()
    mill.run(items(9))
    (carried,) = (first.folder / "vectors").rglob("*.arrow")
    assert (mill.live().folder / carried.relative_to(first.folder)).samefile(carried)


@pytest.fixture
def refused(mill: Mill) -> Mill:
    """A candidate with 20 new vectors that the gate on churn stopped."""
    mill.settings["gates"] = {"churn": 0.1}
    mill.run(items(20))
    with pytest.raises(GateFailed):
        mill.run([row | {"title": f"new {row['sku']}"} for row in items(20)])
    return mill


def test_accepting_a_gate_publishes_the_candidate_that_is_there(refused: Mill) -> None:
    planned = refused.planned()
    assert planned.resumed
    before = set((refused.root / "mill").rglob("*.arrow"))
    assert planned.run(accept=["churn"]).release == planned.plan.run
    assert set((refused.root / "mill").rglob("*.arrow")) == before, "something was computed"


def test_changing_the_limit_of_a_gate_publishes_the_candidate_that_is_there(refused: Mill) -> None:
    refused.settings["gates"] = {"churn": 1.0}
    planned = refused.planned()
    assert planned.resumed
    assert planned.run().release == planned.plan.run
