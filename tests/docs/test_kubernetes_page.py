"""docs/kubernetes.md says what the code does: keys of families, and what ends of pods mean."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.pages import examples, table, text_of
from tests.docs.spec_tables import declared, differences, documented

from embedmill.driving import HOPELESS as HOPELESS_TO_A_RUN
from embedmill.engines.kubernetes.manifest import HOPELESS, YIELDS
from embedmill.spec import load_pipeline_spec
from embedmill.spec.kubernetes import FamilySpec

PAGE = "kubernetes.md"


def test_the_table_of_families_has_every_key_with_its_type_and_default() -> None:
    assert differences(documented(table(PAGE, "Families")), declared(FamilySpec)) == {}


def test_the_table_of_ends_has_the_exit_codes_of_the_manifest() -> None:
    rows = table(PAGE, "What the end of a pod means")
    ignored = {int(code) for cell, job, _ in rows for code in numbers(cell) if "Ignore" in job}
    failing = {int(code) for cell, job, _ in rows for code in numbers(cell) if "FailIndex" in job}
    assert (ignored, failing) == (set(YIELDS), set(HOPELESS))
    assert set(HOPELESS) >= HOPELESS_TO_A_RUN


def test_the_example_loads(tmp_path: Path) -> None:
    (block,) = (each for each in examples(PAGE) if each.language == "yaml")
    (tmp_path / "pipeline.yaml").write_text(block.text)
    spec = load_pipeline_spec(tmp_path / "pipeline.yaml", {})
    assert spec.kubernetes is not None
    assert set(spec.kubernetes.families) == {"cu126", "cpu"}


def numbers(cell: str) -> list[str]:
    return re.findall(r"\b\d+\b", cell)


def test_the_page_says_that_no_real_cluster_has_seen_it() -> None:
    assert "**Nothing has run on a real cluster yet.**" in text_of(PAGE)
