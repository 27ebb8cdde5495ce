"""The gate on search, on real releases: the same model passes, noise passes, a worse model is stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.models import tiny_text_package
from tests.support.mill import OPEN_GATES, Mill, reweighted

from embedmill.errors import GateFailed, ModelError, SpecError
from embedmill.gates import GATES
from embedmill.planned import PlannedRun
from embedmill.release.runs import open_plans
from embedmill.spec.documents import Verdict

WORDS = ["red", "green", "blue", "apple", "pear", "plum", "shirt", "shoe", "lamp", "chair", "table", "cup"]
QUERIES = 60


def shop(count: int = 200) -> list[dict[str, Any]]:
    """Items of three random words, all different."""
    random = np.random.default_rng(0)
    titles: dict[str, None] = {}
    while len(titles) < count:
        titles[" ".join(random.choice(WORDS, size=3, replace=False))] = None
    return [{"sku": f"s{n}", "title": title, "category": "x"} for n, title in enumerate(titles)]


def labelled(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each query is an item's title; the item has a higher grade than those that share its first words."""
    found = []
    for row in rows[:QUERIES]:
        start = " ".join(row["title"].split()[:2])
        others = {each["sku"]: 1 for each in rows if each["title"].startswith(start)}
        found.append({"query": row["title"], "relevant": {**others, row["sku"]: 3}})
    return found


def ask(mill: Mill, queries: Sequence[Mapping[str, Any]], **settings: Any) -> None:
    (mill.root / "queries.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries))
    relevance = {"queries": "queries.jsonl", "k": 5, **settings}
    mill.settings["gates"] = {**OPEN_GATES, "relevance": relevance}


def noisy(folder: Path, scale: float, seed: int = 1) -> Path:
    """The tiny model with noise on its weights."""
    random = np.random.default_rng(seed)
    return reweighted(folder, lambda weights: weights + random.normal(scale=scale, size=weights.shape))


def blind(folder: Path) -> Path:
    """A model that hardly tells one letter from another."""
    return reweighted(folder, lambda weights: weights * 0.01 if len(weights) == 258 else weights)


def verdict_on(run: PlannedRun) -> Verdict:
    (found,) = (each for each in run.check().verdicts if each.gate == "relevance")
    return found


def test_without_queries_the_gate_passes_and_says_so(mill: Mill) -> None:
    found = verdict_on(mill.indexed(shop(5)))
    assert found.passed
    assert found.message == "no labelled queries are configured (gates.relevance)"


def test_the_first_release_has_nothing_to_compare_with(mill: Mill) -> None:
    rows = shop()
    ask(mill, labelled(rows))
    found = verdict_on(mill.indexed(rows))
    assert found.passed
    assert found.message.startswith("60 queries: recall@5 0.")
    assert found.message.endswith("nothing was published yet to compare with")


def test_the_same_model_passes_with_no_difference(mill: Mill) -> None:
    rows = shop()
    ask(mill, labelled(rows))
    mill.run(rows)
    found = verdict_on(mill.indexed(rows))
    assert found.passed
    assert (found.found, found.limit) == (0.0, 0.0)
    assert "recall@5 +0.0000 (+0.0000 to +0.0000), nDCG@5 +0.0000" in found.message


def test_a_worse_model_is_stopped_and_the_live_release_stays(mill: Mill, tmp_path: Path) -> None:
    rows = shop()
    ask(mill, labelled(rows))
    first = mill.run(rows).release
    mill.model = blind(tmp_path / "blind")
    run = mill.indexed()
    found = verdict_on(run)
    assert not found.passed
    assert found.found is not None
    assert found.found < -0.2
    assert "worse against the live release: recall@5 -0." in found.message
    with pytest.raises(GateFailed, match="relevance: 60 queries") as error:
        run.run()
    assert error.value.exit_code == 3
    assert "--accept relevance" in error.value.hint
    assert mill.live().name == first
    assert run.run(accept=["relevance"]).number == 2


def test_a_better_model_passes(mill: Mill, tmp_path: Path) -> None:
    good, rows = mill.model, shop()
    ask(mill, labelled(rows))
    mill.model = blind(tmp_path / "blind")
    mill.run(rows)
    mill.model = good
    found = verdict_on(mill.indexed())
    assert found.passed
    assert found.found is not None
    assert found.found > 0.2


@pytest.mark.parametrize("seed", range(5))
def test_chance_changes_pass(mill: Mill, tmp_path: Path, seed: int) -> None:
    """Noise on the weights moves hits here and there, up and down."""
    rows = shop()
    ask(mill, labelled(rows))
    mill.model = noisy(tmp_path / "before", 0.1, seed=100)
    mill.run(rows)
    mill.model = noisy(tmp_path / "after", 0.1, seed=seed)
    found = verdict_on(mill.indexed())
    assert found.passed, found.message
    assert "+0.0000 (+0.0000 to +0.0000)" not in found.message, "something did change"


def test_a_tolerance_lets_a_known_loss_pass(mill: Mill, tmp_path: Path) -> None:
    rows = shop()
    ask(mill, labelled(rows))
    mill.run(rows)
    mill.model = blind(tmp_path / "blind")
    assert not verdict_on(mill.indexed()).passed
    ask(mill, labelled(rows), tolerance=1.0)
    assert verdict_on(mill.indexed()).passed


def test_the_figures_are_the_same_each_time(mill: Mill, tmp_path: Path) -> None:
    rows = shop()
    ask(mill, labelled(rows))
    mill.run(rows)
    mill.model = noisy(tmp_path / "noisy", 0.5)
    run = mill.indexed()
    assert verdict_on(run) == verdict_on(run)


@pytest.mark.parametrize(("floor", "low"), [("min_recall", "recall@5"), ("min_ndcg", "nDCG@5")])
def test_a_floor_stops_even_a_first_release(mill: Mill, tmp_path: Path, floor: str, low: str) -> None:
    rows = shop()
    mill.model = blind(tmp_path / "blind")
    ask(mill, labelled(rows), **{floor: 0.9})
    run = mill.indexed(rows)
    found = verdict_on(run)
    assert not found.passed
    assert f"{low} is below the floor of 0.9" in found.message
    ask(mill, labelled(rows), **{floor: 0.0})
    assert verdict_on(mill.indexed()).passed


def test_below_a_floor_the_comparison_with_the_live_release_is_told_too(mill: Mill, tmp_path: Path) -> None:
    good, rows = mill.model, shop()
    ask(mill, labelled(rows), min_recall=1.0)
    mill.model = blind(tmp_path / "blind")
    mill.indexed(rows).run(accept=["relevance"])
    mill.model = good
    found = verdict_on(mill.indexed())
    assert not found.passed, "better than the live release, and below the floor all the same"
    assert "recall@5 is below the floor of 1; against the live release: recall@5 +0." in found.message
    assert found.found is not None
    assert found.found > 0.2


def test_below_a_floor_and_worse_says_both(mill: Mill, tmp_path: Path) -> None:
    rows = shop()
    ask(mill, labelled(rows))
    mill.run(rows)
    ask(mill, labelled(rows), min_ndcg=0.9)
    mill.model = blind(tmp_path / "blind")
    found = verdict_on(mill.indexed())
    assert not found.passed
    assert "nDCG@5 is below the floor of 0.9; worse against the live release: recall@5 -0." in found.message


def test_labelled_items_that_are_not_there_are_left_out_and_counted(mill: Mill) -> None:
    rows = shop()
    queries = labelled(rows)
    ask(mill, queries)
    mill.run(rows)
    labels = sum(len(query["relevant"]) for query in queries)
    gone = {row["sku"] for row in rows[:10]}
    lost = sum(len(query["relevant"].keys() & gone) for query in queries)
    alone = sum(not (query["relevant"].keys() - gone) for query in queries)
    found = verdict_on(mill.indexed(rows[10:]))
    assert found.passed, "items that were deleted are no fault of the model"
    assert f"{lost} of {labels} labelled items are not in the candidate" in found.message
    assert f"{QUERIES - alone} queries" in found.message
    assert f"({alone} more have no item there)" in found.message


def test_one_query_with_one_lost_item_is_spoken_of_as_one(mill: Mill) -> None:
    rows = shop(20)
    ask(mill, [{"query": rows[0]["title"], "relevant": ["s0", "gone"]}, {"query": "x", "relevant": ["gone"]}])
    message = verdict_on(mill.indexed(rows)).message
    assert message.startswith("1 query: recall@5 ")
    assert "(1 more has no item there)" in message
    ask(mill, [{"query": rows[0]["title"], "relevant": ["s0", "gone"]}])
    assert message.endswith("2 of 3 labelled items are not in the candidate")
    assert verdict_on(mill.indexed(rows)).message.endswith("1 of 2 labelled items is not in the candidate")


def test_items_that_are_new_are_no_merit_of_the_model(mill: Mill) -> None:
    rows = shop()
    ask(mill, labelled(rows))
    mill.run(rows[30:])
    found = verdict_on(mill.indexed(rows))
    assert found.found is not None
    assert found.found <= 0.05


def test_without_any_labelled_item_somebody_must_look(mill: Mill) -> None:
    ask(mill, [{"query": "red", "relevant": ["nope"]}, {"query": "blue", "relevant": ["nor this"]}])
    found = verdict_on(mill.indexed(shop(5)))
    assert not found.passed
    assert found.message == "no labelled item of 2 queries is in the candidate"


def test_ids_that_are_numbers_are_found(mill: Mill) -> None:
    import pyarrow as pa

    mill.schema = pa.schema([("sku", pa.int64()), ("title", pa.string()), ("category", pa.string())])
    ask(mill, [{"query": "item 1", "relevant": [1]}, {"query": "item 2", "relevant": {"2": 1}}])
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku"}
    found = verdict_on(mill.indexed([{"sku": n, "title": f"item {n}"} for n in range(4)]))
    assert found.message.startswith("2 queries: recall@5 1.0000, nDCG@5 ")


def test_a_live_release_that_answers_no_texts_is_not_compared_with(mill: Mill, tmp_path: Path) -> None:
    rows = shop(20)
    good, mill.model = mill.model, tiny_text_package(tmp_path / "mute", template="{title}")
    file = mill.model / "model.yaml"
    spec = yaml.safe_load(file.read_text())
    del spec["encoders"]["query_text"]
    file.write_text(yaml.safe_dump(spec))
    mill.run(rows)
    mill.model = good
    ask(mill, labelled(rows))
    found = verdict_on(mill.indexed())
    assert found.passed
    assert "has no encoder query_text to compare with" in found.message


def test_wrong_queries_end_a_plan_before_work_begins(mill: Mill, tmp_path: Path) -> None:
    ask(mill, [{"query": "red", "relevant": []}])
    with pytest.raises(SpecError, match=r"queries\.jsonl:1: `relevant` names no item"):
        mill.planned(shop(5))
    (mill.root / "queries.jsonl").unlink()
    with pytest.raises(SpecError, match="no such file"):
        mill.planned()
    assert list(open_plans(mill.home)) == []


def test_a_model_that_answers_no_texts_ends_a_plan_before_work_begins(mill: Mill, tmp_path: Path) -> None:
    ask(mill, [{"query": "red", "relevant": ["s1"]}])
    mill.model = tiny_text_package(tmp_path / "mute")
    file = mill.model / "model.yaml"
    file.write_text(file.read_text().replace("query_text:", "query_image:"))
    with pytest.raises(ModelError, match="no encoder query_text"):
        mill.planned(shop(5))


def test_the_gate_is_one_of_those_that_run(mill: Mill) -> None:
    assert "relevance" in GATES
