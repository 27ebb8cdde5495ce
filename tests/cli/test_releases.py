"""`release …`: what people and programs see."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

import pyarrow as pa
import pytest
from tests.cli.terminal import Terminal
from tests.models import tiny_image_package, tiny_text_package
from tests.support.mill import Mill, items
from tests.support.shop import fetching, rows, serve
from tests.support.web import status, web_server

from embedmill.release.reader import open_release


def test_ls_is_a_plain_list_of_releases(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    first, second = mill.run(items(8)), mill.run(items(9))
    listed = embedmill.json("release", "ls", spec)
    fields = {"release", "number", "items", "created", "live", "pinned", "hold", "trouble"}
    assert [set(each) for each in listed] == [fields] * 2
    assert [(each["release"], each["number"], each["items"], each["live"]) for each in listed] == [
        (first.release, 1, 8, False),
        (second.release, 2, 9, True),
    ]
    rows = embedmill("release", "ls", spec).out.splitlines()[2:]
    assert rows[0].split()[:3] == ["1", first.release, "8"]
    assert rows[1].endswith("live")


def test_ls_of_a_pipeline_without_releases_is_an_empty_list(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    mill.open()
    assert embedmill.json("release", "ls", spec) == []


def test_show_takes_a_name_a_number_or_the_live_release(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    first, second = mill.run(items(8)), mill.run(items(9))
    for argument, release in (("1", first), (second.release, second), (None, second)):
        named = [argument] if argument else []
        report = embedmill.json("release", "show", spec, *named)
        assert (report["schema"], report["release"]) == ("release/1", release.release)
    said = embedmill("release", "show", spec).out
    for found in (second.release, "accounting", "pass", report["content_digest"], "exact"):
        assert found in said


def test_show_says_how_many_items_kept_a_vector_since_their_image_was_not_fetched(
    mill: Mill, spec: Path, embedmill: Terminal, tmp_path: Path
) -> None:
    mill.model = tiny_image_package(tmp_path / "pictures")
    mill.schema = pa.schema([("sku", pa.string()), ("image", pa.string()), ("version", pa.int64())])
    with web_server() as web:
        fetching(mill, web, on_error="keep_previous", attempts=1)
        serve(web, 5)
        mill.run(rows(web, 5))
        assert "not fetched" not in embedmill("release", "show", spec).out
        serve(web, 5, n3=status(503))
        mill.run(rows(web, 5))
    said = embedmill("release", "show", spec).out
    assert "5: 0 embedded, 5 reused (1 of these kept, not fetched)" in said


def test_show_diff_and_report_name_the_model(
    mill: Mill, spec: Path, embedmill: Terminal, tmp_path: Path
) -> None:
    first = mill.run(items(8))
    mill.settings["model"] = str(tiny_text_package(tmp_path / "<b>other", seed=1))
    second = mill.run(items(8))
    models = [str(open_release(mill.home, run.release).content.pipeline.model) for run in (first, second)]
    assert models[0] != models[1]
    for number, model in zip(("1", "2"), models, strict=True):
        assert f"model {model}" in " ".join(embedmill("release", "show", spec, number).out.split())
    said = embedmill("release", "diff", spec).out
    before, after = (
        f"{model} (encoder {open_release(mill.home, run.release).content.encoder_digest[:12]})"
        for model, run in zip(models, (first, second), strict=True)
    )
    assert f"another model: {before} → {after}: every vector is new" in said
    page = (open_release(mill.home, second.release).folder / "report.html").read_text()
    assert f"<td>Model</td><td><code>{escape(models[1])}</code></td>" in page
    work = tmp_path / "work.html"
    embedmill("report", spec, "--html", work)
    assert f"<td>Model</td><td><code>{escape(models[1])}</code></td>" in work.read_text()


def test_diff_shows_examples_of_each_change(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    rows = items(8)
    mill.run(rows)
    rows[1]["title"], rows[2]["price"] = "other", 9.5
    mill.run([*rows[:7], {**rows[0], "sku": "s9"}])
    said = embedmill("release", "diff", spec).out
    assert "title: item 1 → other" in said
    assert "price: 1.0 → 9.5" in said
    report = embedmill.json("release", "diff", spec, "1", "2")
    assert report["schema"] == "diff/1"
    kinds = ("added", "removed", "input_changed", "display_changed")
    assert [report[kind]["count"] for kind in kinds] == [1, 1, 1, 1]
    assert report["input_changed"]["examples"] == [
        {"id": "s1", "before": {"title": "item 1"}, "after": {"title": "other"}}
    ]
    assert embedmill.json("release", "diff", spec, "-n", "0")["added"]["examples"] == []


def test_diff_says_which_display_columns_have_another_type(
    mill: Mill, spec: Path, embedmill: Terminal
) -> None:
    rows = items(8)
    mill.run(rows)
    mill.schema = pa.schema([*(each for each in mill.schema if each.name != "price"), ("price", pa.int64())])
    mill.run([{**row, "price": 7} for row in rows])
    said = embedmill("release", "diff", spec).out
    assert "display columns of another type, not compared: price\n" in said
    assert "display columns added" not in said


def test_a_rollback_holds_runs_until_it_is_lifted(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.run(items(8))
    mill.run(items(9))
    said = embedmill("release", "rollback", spec, "1", "--note", "bad prices")
    assert said.code == 0
    assert f"embedmill release unhold {spec}" in said.err
    status = embedmill.json("status", spec)
    assert (status["live"]["number"], status["hold"]) == (1, 3)
    mill.worked(items(10))
    held = embedmill("run", spec, "--quiet")
    assert held.code == 3
    assert f"`embedmill release unhold {spec}` lifts it" in held.err
    assert "(log entry 3: bad prices)" in held.err
    assert "since log entry 3 (bad prices): runs do not publish" in embedmill("status", spec).out
    assert "on hold (bad prices), live" in embedmill("release", "ls", spec).out
    assert embedmill.json("release", "unhold", spec) == {"schema": "unhold/1", "number": 4}
    assert embedmill.json("release", "unhold", spec) == {"schema": "unhold/1", "number": None}
    assert embedmill.json("run", spec)["number"] == 5


def test_rollback_prints_its_log_entry(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.run(items(8))
    mill.run(items(9))
    entry = embedmill.json("release", "rollback", spec, "1")
    assert (entry["schema"], entry["kind"], entry["number"]) == ("log/1", "rollback", 3)


def test_verify_hashes_every_file(mill: Mill, spec: Path, embedmill: Terminal) -> None:
    mill.run(items(8))
    report = embedmill.json("release", "verify", spec)
    manifest = json.loads((mill.live().folder / "MANIFEST.json").read_text())
    assert report["files"] == len(manifest["files"])
    assert "every byte is as published" in embedmill("release", "verify", spec, "1").out


@pytest.mark.parametrize("command", [["release", "verify"], ["release", "show"], ["search"]])
def test_a_truncated_file_is_refused_by_name(
    mill: Mill, spec: Path, embedmill: Terminal, command: list[str]
) -> None:
    mill.run([*items(8), items(1)[0]])
    release = mill.live()
    file = release.folder / release.content.quarantine.path
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1])
    said = embedmill(*command, spec, *(["--text", "x"] if command == ["search"] else []))
    assert said.code == 1
    assert file.name in said.err
    assert said.err.count("\n") == 1
