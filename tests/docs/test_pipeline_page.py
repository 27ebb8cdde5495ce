"""docs/pipeline.md says of every key what the code does, and of every change what it leads to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from tests.docs.pages import examples, table
from tests.docs.spec_tables import declared, differences, documented
from tests.models import tiny_mixed_package
from tests.support.mill import OPEN_GATES, Mill, items
from tests.support.shop import png

from embedmill.errors import PublishLost, RunMissing
from embedmill.pipeline import Pipeline
from embedmill.release.admin import rollback
from embedmill.release.draining import drain
from embedmill.release.runs import open_plans
from embedmill.spec import PipelineSpec, load_pipeline_spec

PAGE = "pipeline.md"


def test_the_table_has_every_key_with_its_type_and_default() -> None:
    assert differences(documented(table(PAGE, "Keys")), declared(PipelineSpec)) == {}


def test_the_full_example_loads_and_has_every_key(tmp_path: Path) -> None:
    (block,) = (each for each in examples(PAGE) if each.language == "yaml")
    file = tmp_path / "pipeline.yaml"
    file.write_text(block.text)
    load_pipeline_spec(file, {})
    written = yaml.safe_load(block.text)
    known = declared(PipelineSpec)
    own = tuple(f"{key}." for key, (words, _) in known.items() if " by " in words)
    assert {key for key in keys(written) if not key.startswith(own)} == set(known)


def keys(written: dict[str, Any], prefix: str = "") -> set[str]:
    """Every key, with those of sections behind a dot."""
    found = {prefix + key for key in written}
    inner = [keys(value, f"{prefix}{key}.") for key, value in written.items() if isinstance(value, dict)]
    return found.union(*inner)


NOTHING = (
    "nothing changed, or only comments, `gates`, `serving`, `engine`, `fleet`, `kubernetes`, `ray`, "
    "`jenkins`, `priority`, `deadline`, or what `work` has beside sizes of shards and batches"
)


def nothing(mill: Mill) -> None:
    mill.settings |= {
        "gates": OPEN_GATES | {"churn": 0.5},
        "serving": {"max_hits": 9},
        "work": {"workers": 1, "attempts": 7, "look_again_s": 9, "role": "arn:aws:iam::1:role/w"},
        "fleet": "fleet.yaml",
        "kubernetes": {"families": {"cpu": {}}},
        "jenkins": {"url": "https://ci.example.org", "job": "worker", "families": {"cpu": {}}},
        "ray": {"address": "127.0.0.1:6379", "families": {"cpu": {}}},
        "priority": 20,
        "deadline": "06:00",
    }
    mill.open()
    with (mill.root / "pipeline.yaml").open("a") as out:
        out.write("# a comment\n")


def catalog(mill: Mill) -> None:
    mill.write(items(9))


def key(mill: Mill) -> None:
    mill.settings["goldens"] = 16
    mill.open()


def model(mill: Mill) -> None:
    with (mill.root / "model" / "model.yaml").open("a") as out:
        out.write("# a comment\n")


def folder(mill: Mill) -> None:
    (mill.root / "elsewhere").mkdir()
    for name in ("items.parquet", "pipeline.yaml"):
        shutil.move(mill.root / name, mill.root / "elsewhere" / name)
    mill.root = mill.root / "elsewhere"


def live(mill: Mill) -> None:
    rollback(mill.home, "1")


def mended(mill: Mill) -> None:
    """The gate is as it was before, so that what `resume` goes on with can be published."""
    mill.settings["gates"] = OPEN_GATES | {"quarantine": 0.0}
    run = mill.open().open_run()
    run.index()
    assert not run.check().passed
    mill.settings["gates"] = OPEN_GATES
    mill.open()
    (mill.root / "pictures" / "late.png").write_bytes(png(1))


def cancelled(mill: Mill) -> None:
    mill.open().cancel()


def drained(mill: Mill) -> None:
    drain(mill.home, mill.open().open_run().plan.run)


CHANGES: dict[str, Callable[[Mill], None]] = {
    NOTHING: nothing,
    "a catalog file was added, removed or written again": catalog,
    "another key of pipeline.yaml changed, or an override": key,
    "any file of the model package changed": model,
    "pipeline.yaml lies in another folder": folder,
    "another release went live": live,
    "a gate stopped it, and images that it lacks came or changed": mended,
    "`embedmill cancel`": cancelled,
    "`embedmill drain`, which both lift": drained,
}
ROWS = table(PAGE, "What resumes what")


@pytest.fixture
def stopped(mill: Mill) -> Mill:
    """Two releases, and an open run on top of them whose shards are finished; one picture is not there."""
    mill.model = tiny_mixed_package(mill.root / "model")
    mill.schema = pa.schema([*mill.schema, ("image", pa.string())])
    mill.settings["store"] = str(mill.root / "mill")
    mill.settings["catalog"] = mill.spec["catalog"] | {"images": str(mill.root / "pictures")}
    (mill.root / "pictures").mkdir()
    for count in (4, 5):
        mill.run(items(count))
    mill.worked([*items(7), {**items(1, start=7)[0], "image": "late.png"}])
    return mill


def as_a_new_process(mill: Mill) -> Pipeline:
    return Pipeline.from_file(mill.root / "pipeline.yaml")


def test_every_change_of_the_table_is_tried() -> None:
    assert [change for change, _, _ in ROWS] == list(CHANGES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_run_does_with_an_open_run(stopped: Mill, row: list[str]) -> None:
    change, run, _ = row
    (left,) = (plan.run for plan in open_plans(stopped.home))
    CHANGES[change](stopped)
    planned = as_a_new_process(stopped).plan()
    is_open = left in {plan.run for plan in open_plans(stopped.home)}
    if planned.resumed:
        assert run == "go on"
    elif change == "`embedmill cancel`":
        assert run == "plan anew"
    else:
        assert run == ("plan anew" if is_open else "close it and plan anew")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_resume_does_with_an_open_run(stopped: Mill, row: list[str]) -> None:
    change, _, resume = row
    CHANGES[change](stopped)
    if resume == "says that none is open":
        with pytest.raises(RunMissing, match="no open run"):
            as_a_new_process(stopped).open_run()
        return
    planned = as_a_new_process(stopped).open_run()
    if resume == "goes on":
        assert planned.run().release == planned.plan.run
        return
    with pytest.raises(PublishLost) as lost:
        planned.run()
    assert f"closes it, and ends with {lost.value.exit_code}" == resume
    assert not list(open_plans(planned.home))
