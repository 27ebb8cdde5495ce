"""Which items a gate missed, and why, is said wherever it is said that they are missing."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from tests.cli.terminal import Terminal
from tests.gates.test_gates import verdicts_on
from tests.models import tiny_mixed_package
from tests.support.mill import Mill, items, quarantined
from tests.support.shop import png

from embedmill.errors import GateFailed


@pytest.fixture
def shop(mill: Mill, tmp_path: Path) -> Mill:
    """Ten items with texts and pictures: two pictures are damaged, one is empty and one absent."""
    mill.model = tiny_mixed_package(tmp_path / "mixed")
    mill.schema = pa.schema([("sku", pa.string()), ("title", pa.string()), ("image", pa.string())])
    mill.settings = {
        "catalog": {"source": "items.parquet", "id": "sku", "images": "pictures"},
        "gates": {"quarantine": 0.1},
    }
    folder = mill.root / "pictures"
    folder.mkdir()
    contents = {2: b"broken", 4: b"broken, too", 5: b""}
    for number in set(range(10)) - {7}:
        (folder / f"{number}.png").write_bytes(contents.get(number, png(number)))
    mill.write([{"sku": f"s{n}", "title": f"item {n}", "image": f"{n}.png"} for n in range(10)])
    return mill


def test_the_verdict_counts_items_by_reason_and_names_some(shop: Mill) -> None:
    run = shop.indexed()
    message = verdicts_on(run)["quarantine"].message
    assert (
        "4 of 10 items are quarantined: 40.00%, allowed 10.00%: 3 image-invalid, 1 image-missing; " in message
    )
    assert "such as s7, " in message
    with pytest.raises(GateFailed, match="3 image-invalid, 1 image-missing") as raised:
        run.run()
    assert "embedmill check --quarantine" in str(raised.value)
    assert "mend them, and run again" in str(raised.value)
    assert "--accept quarantine" in str(raised.value)


def test_a_plan_says_why_items_are_quarantined_and_names_one_of_each_reason(
    mill: Mill, embedmill: Terminal
) -> None:
    mill.write([*items(5), items(1)[0], {"title": "no id"}])
    mill.open()
    words = " ".join(embedmill("plan", mill.root / "pipeline.yaml", "--quiet").out.split())
    assert "quarantined 2 duplicate-id, 1 null-id; such as row 6, s0" in words
    mill.write(items(5))
    assert "duplicate-id" not in embedmill("plan", mill.root / "pipeline.yaml", "--quiet").out


def test_rows_without_an_id_are_named_by_their_place(mill: Mill) -> None:
    mill.settings = {"gates": {"quarantine": 0.0}}
    message = verdicts_on(mill.indexed([*items(3), {"title": "no id"}]))["quarantine"].message
    assert message.endswith("1 null-id; such as row 3")


def test_the_report_of_the_run_has_a_table_of_reasons_and_examples(shop: Mill) -> None:
    run = shop.checked()
    page = run.home.store.get(run.home.run_key(run.plan.run, "report.html")).decode()
    section = page.split("<h2>Quarantine</h2>")[1]
    assert "<td>image-invalid</td><td class='n'>3</td>" in section
    assert "<td>image-missing</td><td class='n'>1</td>" in section
    assert all(f"<td>s{n}</td>" in section for n in (2, 4, 5, 7))


def test_a_command_lists_what_a_candidate_lacks_without_running_a_gate(
    shop: Mill, spec: Path, embedmill: Terminal
) -> None:
    run = shop.indexed()
    said = embedmill("check", spec, "--quarantine")
    assert said.code == 0, said
    assert all(f"s{n}" in said.out for n in (2, 4, 5, 7))
    assert "5.png: the file is empty" in said.out
    found = embedmill.json("check", spec, "--quarantine", "-n", "1")
    assert (found["schema"], found["run"], found["total"]) == ("quarantine/1", run.plan.run, 10)
    assert found["quarantine"] == {"image-invalid": 3, "image-missing": 1}
    assert len(found["quarantined"]) == 1
    assert "and 3 more" in embedmill("check", spec, "--quarantine", "-n", "1").err
    assert not run.home.exists(run.home.run_key(run.plan.run, "gates.json"))


def test_status_says_which_candidate_was_stopped_and_what_to_do(
    shop: Mill, spec: Path, embedmill: Terminal
) -> None:
    run = shop.checked()
    created = run.index().created
    said = embedmill("status", spec)
    assert f"the candidate of {created} was stopped by quarantine: 4 of 10 items" in said.out
    assert "`run` plans anew once that is mended" in said.out
    (state,) = embedmill.json("status", spec)["open_runs"]
    assert state["stopped"].startswith(f"the candidate of {created}")


def test_an_empty_file_is_a_damaged_picture_and_no_reference_is_none(shop: Mill) -> None:
    """Its text would have been embedded alone, without a word."""
    shop.settings["gates"] = {"quarantine": 1.0}
    rows: list[dict[str, str | None]] = [
        {"sku": "hollow", "title": "lamp", "image": "5.png"},
        {"sku": "none", "title": "lamp", "image": None},
        {"sku": "blank", "title": "lamp", "image": ""},
        {"sku": "whole", "title": "lamp", "image": "1.png"},
    ]
    result = shop.run(rows)
    assert (result.embedded, result.quarantined) == (3, 1)
    (lost,) = quarantined(shop.live())
    assert (lost["id"], lost["reason"], lost["detail"]) == (
        "hollow",
        "image-invalid",
        "5.png: the file is empty",
    )


def test_empty_bytes_in_a_column_are_no_picture(shop: Mill) -> None:
    shop.schema = pa.schema([("sku", pa.string()), ("title", pa.string()), ("image", pa.binary())])
    rows: list[dict[str, str | bytes]] = [
        {"sku": "hollow", "title": "lamp", "image": b""},
        {"sku": "b", "image": png(1)},
    ]
    result = shop.run(rows)
    assert (result.embedded, result.quarantined) == (2, 0)
