"""A plan is the same whoever digests the catalog, and finds the base's items without digests of their ids."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.support.mill import Mill, items

from embedmill.catalog import id_digests
from embedmill.hashing import Hasher
from embedmill.planning.base import BaseItems, sorted_ranges
from embedmill.planning.plan import Planner
from embedmill.planning.spill import BUCKETS, ranges_of
from embedmill.release.items import FINGERPRINT, ID, STATE, states
from embedmill.spec.documents import Plan


def day(number: int) -> list[dict[str, Any]]:
    """600 items: on day 1 some are gone, some new, some changed, and two have one id."""
    rows = items(600)
    if number:
        rows = [*rows[20:], *items(30, start=1000), {**rows[50]}]
        for row in rows[::40]:
            row["title"] = f"another {row['title']}"
    return rows


def planned_by(mill: Mill, processes: int) -> Plan:
    pipeline = mill.open()
    own = partial(Hasher, processes, worth_rows=0, fewest_rows=10)
    planner = Planner(pipeline.home, pipeline.spec, pipeline.root, pipeline.package, pipeline.live(), own)
    with planner:
        return planner.plan()[0]


def test_plans_of_one_and_of_two_processes_differ_in_names_alone(mill: Mill) -> None:
    mill.run(day(0))
    mill.write(day(1))
    one, two = planned_by(mill, 1), planned_by(mill, 2)
    assert one.items == two.items
    assert one.items.deleted == 20
    assert one.items.new == 30
    for mine, other in ((one.shards, two.shards), (one.item_parts, two.item_parts)):
        assert len(mine) == len(other) > 0
    assert [shard.file.sha256 for shard in one.shards] == [shard.file.sha256 for shard in two.shards]
    assert [part.sha256 for part in one.item_parts] == [part.sha256 for part in two.item_parts]
    assert one.quarantine.sha256 == two.quarantine.sha256


@pytest.mark.parametrize("ranges", [2, 64, 1 << 16])
@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 5000])
def test_few_digests_tell_the_ranges_of_sorted_ids(count: int, ranges: int) -> None:
    ids = pa.array([f"id-{number}" for number in range(count)])
    ids = ids.take(pa.array(np.argsort(id_digests(ids))))
    assert sorted_ranges(ids, ranges).tolist() == ranges_of(id_digests(ids), ranges).tolist()


@pytest.mark.parametrize("ranges", [64, 1024])
def test_the_bases_items_come_by_range_each_once(ranges: int) -> None:
    ids = pa.array(range(3000))
    ids = ids.take(pa.array(np.argsort(id_digests(ids))))
    prints = pa.array([number.to_bytes(16, "big") for number in range(3000)], pa.binary(16))
    rows = pa.record_batch({ID: ids, FINGERPRINT: prints, STATE: states(np.arange(3000) % 2 == 1)})
    base = BaseItems([rows.slice(start, 700) for start in range(0, 3000, 700)], ranges)
    found = [base.take(number) for number in range(ranges)]
    counts = np.bincount(ranges_of(id_digests(ids), ranges), minlength=ranges).tolist()
    assert [len(each.ids) for each in found] == counts
    assert np.concatenate([each.embedded for each in found]).tolist() == [True, False] * 1500
    assert b"".join(each.prints.tobytes() for each in found) == b"".join(prints.to_pylist())


def test_a_base_without_items_has_nothing_in_any_range() -> None:
    assert [len(BaseItems([], BUCKETS).take(bucket).ids) for bucket in range(BUCKETS)] == [0] * BUCKETS
