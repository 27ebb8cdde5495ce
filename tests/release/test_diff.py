"""What changed between two releases is found by merging, however their items are cut into batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models import tiny_text_package
from tests.support.mill import Mill, items

from embedmill.catalog import id_digests
from embedmill.release.diff import ReleaseDiff, compare_items, diff_releases, different
from embedmill.release.reader import open_release

Items = dict[int, tuple[int, int | None]]
"""id → (what the model sees, what is shown)"""


def batches(rows: Items, cuts: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """Item rows in order of id digests, cut at these places."""
    ids = pa.array(rows, pa.int64())
    table = pa.record_batch(
        {
            "id": ids,
            "_fingerprint": pa.array([b"%016d" % seen for seen, _ in rows.values()], pa.binary(16)),
            "price": pa.array([shown for _, shown in rows.values()], pa.int64()),
        }
    )
    table = table.take(pa.array(np.argsort(id_digests(ids), kind="stable")))
    places = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    yield from (table.slice(start, end - start) for start, end in pairwise(places))


releases = st.dictionaries(
    st.integers(0, 40), st.tuples(st.integers(0, 2), st.one_of(st.none(), st.integers(0, 2))), max_size=30
)
cuts = st.lists(st.integers(0, 30), max_size=6)


@given(before=releases, after=releases, cut_before=cuts, cut_after=cuts)
def test_a_merge_finds_what_a_comparison_of_all_items_finds(
    before: Items, after: Items, cut_before: list[int], cut_after: list[int]
) -> None:
    found = ReleaseDiff((), (), same_encoder=True)
    compare_items(found, batches(before, cut_before), batches(after, cut_after), ["price"], examples=99)
    both = before.keys() & after.keys()
    other_input = {key for key in both if before[key][0] != after[key][0]}
    other_display = {key for key in both - other_input if before[key][1] != after[key][1]}
    assert ids(found.added) == after.keys() - before.keys()
    assert ids(found.removed) == before.keys() - after.keys()
    assert ids(found.input_changed) == other_input
    assert ids(found.display_changed) == other_display
    assert found.unchanged == len(both) - len(other_input) - len(other_display)


def ids(changes: Any) -> set[int]:
    """Ids of all examples; as many as are counted."""
    assert len(changes.examples) == changes.count
    return {example.id for example in changes.examples}


def test_examples_show_what_was_and_what_is(mill: Mill) -> None:
    rows = items(8)
    first = mill.run(rows)
    rows[1]["title"], rows[2]["price"] = "other", None
    second = mill.run([*rows[:7], {**rows[0], "sku": "s9"}])
    found = diff_releases(*(open_release(mill.home, run.release) for run in (first, second)))
    assert example(found.added) == ("s9", None, {"title": "item 0", "price": 0.0})
    assert example(found.removed) == ("s7", {"title": "item 7", "price": 3.5}, None)
    assert example(found.input_changed) == ("s1", {"title": "item 1"}, {"title": "other"})
    assert example(found.display_changed) == ("s2", {"price": 1.0}, {"price": None})
    assert found.unchanged == 5
    assert found.same_encoder


def example(changes: Any) -> tuple[Any, Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """The only one."""
    (found,) = changes.examples
    assert changes.count == 1
    return found.id, found.before, found.after


def test_what_is_quarantined_now_is_told_from_what_left_the_catalog(mill: Mill) -> None:
    mill.settings["gates"] = {"quarantine": 1.0, "churn": 1.0}
    first = mill.run(items(8))
    left = items(6)
    second = mill.run([*left, {**left[3], "title": "twice"}])  # two rows of one id: both are refused
    found = diff_releases(*(open_release(mill.home, run.release) for run in (first, second)))
    gone = {each.id for each in found.removed.examples}
    assert (found.removed.count, gone) == (2, {"s6", "s7"})
    assert example(found.quarantined) == ("s3", {"title": "item 3", "price": 1.5}, None)
    assert found.added.count == 0


def test_no_more_examples_are_kept_than_asked_for(mill: Mill) -> None:
    runs = [mill.run(items(8)), mill.run(items(40))]
    found = diff_releases(*(open_release(mill.home, run.release) for run in runs), examples=3)
    assert (found.added.count, len(found.added.examples)) == (32, 3)


def test_display_columns_that_come_and_go_are_named_and_not_compared(mill: Mill) -> None:
    first = mill.run(items(4))
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku", "display": ["category", "title"]}
    second = mill.run(items(4))
    found = diff_releases(*(open_release(mill.home, run.release) for run in (first, second)))
    assert (found.columns_added, found.columns_removed) == (("category",), ("price",))
    assert found.unchanged == 4


def test_another_model_is_told(mill: Mill) -> None:
    first = mill.run(items(4))
    mill.settings["model"] = str(tiny_text_package(mill.root / "other", seed=1))
    second = mill.run(items(4))
    found = diff_releases(*(open_release(mill.home, run.release) for run in (first, second)))
    assert not found.same_encoder
    assert found.unchanged == 4


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        (pa.string(), ["a", None, "c"], ["a", None, "d"]),
        (pa.float64(), [1.0, float("nan"), 3.0], [1.0, float("nan"), None]),
        (pa.binary(), [b"a", None, b""], [b"a", None, None]),
        (pa.list_(pa.int64()), [[1], None, [2, 3]], [[1], None, [3, 2]]),
        (pa.list_(pa.float64()), [[1.0], [float("nan")], [2.0]], [[1.0], [float("nan")], [2.5]]),
        (pa.struct([("a", pa.int64())]), [{"a": 1}, None, {"a": 2}], [{"a": 1}, None, {"a": None}]),
        (pa.timestamp("ns"), [1, None, 3], [1, None, 4]),
        (pa.map_(pa.string(), pa.int64()), [[("a", 1)], None, []], [[("a", 1)], None, [("b", 1)]]),
    ],
    ids=str,
)
def test_values_of_any_type_are_compared(kind: pa.DataType, old: list[Any], new: list[Any]) -> None:
    assert different(pa.array(old, kind), pa.array(new, kind)).tolist() == [False, False, True]
