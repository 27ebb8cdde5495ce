"""docs/ray.md says what the code does: keys of families, settings of nodes, metrics."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.pages import examples, table, text_of
from tests.docs.spec_tables import declared, differences, documented

from embedmill.engines.ray import metrics
from embedmill.engines.ray.bridge import CONNECT_S, SETTINGS
from embedmill.engines.ray.engine import GRACE_S, KEEP_S, SILENT_S
from embedmill.fleet.ray_places import LOOK_S
from embedmill.spec import load_pipeline_spec
from embedmill.spec.ray import RayFamilySpec

PAGE = "ray.md"


def test_the_table_of_families_has_every_key_with_its_type_and_default() -> None:
    assert differences(documented(table(PAGE, "Families")), declared(RayFamilySpec)) == {}


def test_the_example_loads(tmp_path: Path) -> None:
    (block,) = (each for each in examples(PAGE) if each.language == "yaml")
    (tmp_path / "pipeline.yaml").write_text(block.text)
    spec = load_pipeline_spec(tmp_path / "pipeline.yaml", {})
    assert spec.ray is not None
    assert set(spec.ray.families) == {"t4", "cpu"}


def test_nodes_get_the_keepalives_of_whoever_speaks_to_ray() -> None:
    text = text_of(PAGE)
    assert [f"{name}={value}" for name, value in SETTINGS.items() if f"{name}={value}" not in text] == []


def test_every_bound_is_that_of_the_code() -> None:
    text = text_of(PAGE)
    assert f"within {CONNECT_S:.0f} s" in text
    assert f"after {KEEP_S:.0f} s" in text
    assert f"{GRACE_S:.0f} s at most" in text
    assert f"counted every {LOOK_S:.0f} s" in text
    assert SILENT_S == 60, "a minute"


def test_the_table_of_metrics_has_all_of_them_in_their_words() -> None:
    written = dict(table(PAGE, "In Ray's dashboard"))
    told = re.findall(r'^ +\("(\w+)", "(.*?)"\)', Path(metrics.__file__).read_text(), re.MULTILINE)
    assert {f"`ray_embedmill_{name}`" for name, _ in told} == set(written)
