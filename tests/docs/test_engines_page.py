"""docs/engines.md and the part of docs/jenkins.md on the engine say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.pages import examples, table, text_of
from tests.docs.spec_tables import declared, differences, documented

from embedmill.driving import CANNOT_START, HOPELESS
from embedmill.engines.jenkins.engine import GRACE_S, SILENT_S
from embedmill.spec import load_pipeline_spec
from embedmill.spec.jenkins_workers import AgentFamilySpec
from embedmill.spec.pipeline import ENGINES
from embedmill.work.leases import EXPIRY_S
from embedmill.work.stragglers import WAIT_S, WAIT_SHARDS

PAGE, JENKINS = "engines.md", "jenkins.md"
OF_JENKINS = "An engine for runs of elsewhere"


def test_every_engine_has_a_column() -> None:
    heads = next(line for line in text_of(PAGE).splitlines() if line.startswith("| | "))
    assert set(re.findall(r"`(\w+)`", heads)) == set(ENGINES)


def test_exit_codes_that_leave_a_place_alone_are_those_of_the_driver() -> None:
    (cell,) = (cell for cell, _ in table(PAGE, "Several at once") if "cannot work" in cell)
    first, last = map(int, re.findall(r"(\d+) to (\d+)", cell)[0])
    named = {*map(int, re.findall(r"\b\d+\b", cell)), *range(first, last + 1)}
    assert named == HOPELESS | CANNOT_START


def test_how_long_others_are_waited_for() -> None:
    rows = dict(table(PAGE, "Late, early, slow"))
    slow = next(words for case, words in rows.items() if "slow" in case)
    assert (WAIT_S, WAIT_SHARDS) == (60.0, 3.0)
    assert "after a minute, or the time of three shards of its own if that is longer" in slow
    assert f"{EXPIRY_S:.0f} s after its last beat" in rows["dies"]


def test_the_table_of_families_has_every_key_with_its_type_and_default() -> None:
    rows = [row for row in table(JENKINS, OF_JENKINS) if len(row) == 4]
    assert differences(documented(rows), declared(AgentFamilySpec)) == {}


def test_the_example_of_jenkins_loads(tmp_path: Path) -> None:
    (block,) = (each for each in examples(JENKINS) if each.language == "yaml")
    (tmp_path / "pipeline.yaml").write_text(block.text)
    spec = load_pipeline_spec(tmp_path / "pipeline.yaml", {})
    assert spec.jenkins is not None
    assert set(spec.jenkins.families) == {"gpu-07", "cpu"}
    assert (SILENT_S, GRACE_S) == (300.0, 60.0), "5 minutes, and a minute"
