"""Day after day of any changes, the published release is what a full recompute would have published."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.e2e.expected import Day, Expected, Left, Model
from tests.support.mill import SCHEMA, Mill, poisonable_package, quarantined

from embedmill import Release, embed
from embedmill.errors import CatalogError
from embedmill.release.log import read_history
from embedmill.spec.documents import Plan
from embedmill.spec.reports import RunReport

MODELS = {
    "first": ("{title}. {category}", 0),
    "other weights": ("{title}. {category}", 1),
    "other template": ("{category}: {title}", 0),
    "title alone": ("{title}", 0),
}
IDS = [*"abcdefgh", "~", "ä"]
LONG = "same beginning, which is longer than what the model reads of a text "
EMPTY = [None, "", "  "]
TITLES = [*EMPTY, "red", "red ", "ä\u0308", "~", "a ~ b", LONG + "~", LONG + "1", LONG + "2", *"klmnop"]
CATEGORIES = [None, "", "x", "x. y"]

rows = st.fixed_dictionaries(
    {
        "sku": st.sampled_from([*IDS, *IDS, None]),
        "title": st.sampled_from(TITLES),
        "category": st.sampled_from(CATEGORIES),
        "price": st.integers(0, 3).map(float),
    }
)
places = st.integers(0, 99)
edits = st.one_of(
    st.tuples(st.just("insert"), places, rows),
    st.tuples(st.just("delete"), places, st.none()),
    st.tuples(st.just("title"), places, st.sampled_from(TITLES)),
    st.tuples(st.just("category"), places, st.sampled_from(CATEGORIES)),
    st.tuples(st.just("price"), places, st.integers(4, 9).map(float)),
    st.tuples(st.just("sku"), places, st.sampled_from([*IDS, None])),
    st.tuples(st.just("copy"), places, places),
    st.tuples(st.just("swap"), places, places),
)


@dataclass(frozen=True)
class Night:
    """What happens between two runs: the catalog is edited, the spec may change; a run may end early."""

    edits: list[tuple[str, int, Any]]
    model: str
    shard_rows: int
    compact_above: float
    exact_below: int
    dies: bool


nights = st.builds(
    Night,
    edits=st.lists(edits, max_size=8),
    model=st.sampled_from([*["first"] * 6, *MODELS]),
    shard_rows=st.integers(1, 50),
    compact_above=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    exact_below=st.sampled_from([0, 3, 20_000]),
    dies=st.sampled_from([False, False, True]),
)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("packages")
    return {
        name: poisonable_package(folder / name, template=template, seed=seed)
        for name, (template, seed) in MODELS.items()
    }


@pytest.mark.soak(quick=1, large=10)
@pytest.mark.timeout(1800)
@given(start=st.lists(rows, max_size=16), nights=st.lists(nights, min_size=1, max_size=5))
def test_a_release_equals_a_full_recompute_and_only_new_contents_are_computed(
    seed: int, packages: dict[str, Path], start: list[dict[str, Any]], nights: list[Night]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        mill = Mill(Path(folder), packages["first"])
        expected, catalog = Expected(), start
        for night in nights:
            catalog = edited(catalog, night.edits)
            mill.model = packages[night.model]
            mill.settings = settings(night)
            if not catalog:
                assert_refused(mill)
                continue
            model = Model(night.model, MODELS[night.model][0])
            day = expected.next_day(catalog, model, night.compact_above, published=not night.dies)
            planned = mill.worked(catalog)
            if night.dies:
                assert_planned(planned.plan, day, total=len(catalog))
                expected.left.append(Left(planned.plan.run, model, day.computed, expected.live))
                continue
            result = planned.run()
            assert_planned(planned.plan, day, total=len(catalog))
            assert_accounted(result, day, total=len(catalog))
            assert_published(mill.live(), day)
            assert_vectors(mill.live(), day, packages[night.model])
            assert_search_finds_each_item_once(mill.live(), day)
        if catalog and not nights[-1].dies:
            assert_same_content(mill.live(), fresh_run(Path(folder) / "fresh", mill, catalog))


def assert_refused(mill: Mill) -> None:
    before = read_history(mill.home)
    with pytest.raises(CatalogError, match="no rows"):
        mill.planned([])
    assert read_history(mill.home) == before


def edited(catalog: Sequence[dict[str, Any]], edits: Iterable[tuple[str, int, Any]]) -> list[dict[str, Any]]:
    """The catalog after these edits; places are taken modulo its length."""
    found = [dict(row) for row in catalog]
    for kind, place, value in edits:
        if kind == "insert":
            found.insert(place % (len(found) + 1), dict(value))
        elif found:
            row = found[place % len(found)]
            match kind:
                case "delete":
                    del found[place % len(found)]
                case "copy":
                    other = found[value % len(found)]
                    row["title"], row["category"] = other["title"], other["category"]
                case "swap":
                    other = found[value % len(found)]
                    row["sku"], other["sku"] = other["sku"], row["sku"]
                case _:
                    row[kind] = value
    return found


def settings(night: Night) -> dict[str, Any]:
    return {
        "work": {"shard_rows": night.shard_rows},
        "compact_above": night.compact_above,
        "index": {"exact_below": night.exact_below},
    }


def assert_planned(plan: Plan, day: Day, *, total: int) -> None:
    counts = plan.items
    assert counts.total == total
    assert (counts.new, counts.changed, counts.unchanged) == (day.new, day.changed, day.unchanged)
    assert (counts.deleted, counts.duplicates, counts.empty) == (day.deleted, day.duplicates, len(day.empty))
    assert counts.new + counts.changed + counts.unchanged + counts.quarantined == total
    assert plan.compute == len(day.computed) + len(day.rejected) == sum(shard.rows for shard in plan.shards)


def assert_accounted(result: RunReport, day: Day, *, total: int) -> None:
    assert result.computed == len(day.computed)
    assert (result.embedded, result.reused, result.empty) == (day.embedded, day.reused, len(day.empty))
    assert result.quarantined == day.quarantine.total()
    assert result.total == total == result.embedded + result.reused + result.empty + result.quarantined
    assert result.compacted == day.compacted


def assert_published(release: Release, day: Day) -> None:
    found = pa.Table.from_batches(release.items(), schema=release.item_schema).to_pylist()
    assert len(found) == len(day.items)
    assert {row["id"]: (row["_state"], row["title"], row["price"]) for row in found} == {
        sku: ("empty" if sku in day.empty else "embedded", row["title"], row["price"])
        for sku, row in day.items.items()
    }
    rows = [(row["id"], row["row"], row["reason"]) for row in quarantined(release)]
    assert Counter(rows) == day.quarantine


def assert_vectors(release: Release, day: Day, package: Path) -> None:
    """Like those of `embed` on the day's rows, which knows nothing of plans and stores."""
    ids, vectors = release.to_numpy()
    assert len(ids) == len(set(ids)) == len(day.texts)
    assert vectors.shape == (len(ids), release.content.dimension)
    recomputed = embed(pa.Table.from_pylist([dict(day.items[sku]) for sku in ids], SCHEMA), package)
    wanted = recomputed.column("vector").combine_chunks().flatten().to_numpy().reshape(vectors.shape)
    assert (cosines(vectors, wanted) >= 0.999999).all()
    assert release.to_arrow().column("id").to_pylist() == list(ids)


def cosines(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """float64[N], one for each pair of rows."""
    one_ND, other_ND = one.astype(np.float64), other.astype(np.float64)
    products: npt.NDArray[np.float64] = np.einsum("nd,nd->n", one_ND, other_ND)
    lengths: npt.NDArray[np.float64] = np.linalg.norm(one_ND, axis=1) * np.linalg.norm(other_ND, axis=1)
    return products / lengths


def assert_search_finds_each_item_once(release: Release, day: Day) -> None:
    query = np.ones(release.content.dimension, dtype=np.float32)
    hits = release.search(vector=query, k=len(day.items) + 50)
    assert sorted(hit.id for hit in hits) == sorted(day.texts)
    assert all(hit.fields["price"] == day.items[hit.id]["price"] for hit in hits)


def fresh_run(folder: Path, mill: Mill, catalog: Sequence[dict[str, Any]]) -> Release:
    folder.mkdir()
    fresh = Mill(folder, mill.model, settings=mill.settings)
    fresh.run(catalog)
    return fresh.live()


def assert_same_content(release: Release, fresh: Release) -> None:
    """Rows, fingerprints and states to the bit; vectors' bits depend on the batches that they were in."""
    assert rows_of(release) == rows_of(fresh)
    assert release.content.encoder_digest == fresh.content.encoder_digest
    (_, vectors), (_, wanted) = release.to_numpy(), fresh.to_numpy()
    assert (cosines(vectors, wanted) >= 0.999999).all()


def rows_of(release: Release) -> list[dict[str, Any]]:
    batches = release.items(["id", "_fingerprint", "_state"])
    return [row for batch in batches for row in batch.to_pylist()]
