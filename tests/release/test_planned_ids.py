"""Digests of planned ids are those of the items, whoever makes them and when."""

from __future__ import annotations

import pytest
from tests.support.mill import Mill, items

from embedmill.catalog import id_digests
from embedmill.digest import digest_list
from embedmill.errors import ReleaseCorrupt
from embedmill.pipeline import PlannedRun
from embedmill.release.items import ID, read_part
from embedmill.release.planned_ids import PlannedIds

ROWS = 40_000
"""More than a part has."""


@pytest.fixture
def planned(mill: Mill) -> PlannedRun:
    return mill.planned(items(ROWS))


def wanted(run: PlannedRun) -> list[list[bytes]]:
    files = [run.home.verified(run.home.key(entry.path), entry) for entry in run.plan.item_parts]
    return [digest_list(id_digests(read_part(file).column(ID))) for file in files]


def test_they_are_the_digests_of_each_parts_ids_in_order(planned: PlannedRun) -> None:
    expected = wanted(planned)
    assert len(expected) > 2
    for begun in (False, True):
        ids = PlannedIds(planned.home, planned.plan)
        if begun:
            ids.begin()
            ids.begin()  # once is enough
        assert [digest_list(ids.of(number)) for number in range(len(expected))] == expected
        assert digest_list(ids.of(0)) == expected[0]  # as often as one likes


@pytest.mark.parametrize("begun", [False, True])
def test_a_damaged_part_is_found_when_it_is_asked_for_and_not_before(
    planned: PlannedRun, *, begun: bool
) -> None:
    last = len(planned.plan.item_parts) - 1
    file = planned.home.verified(
        planned.home.key(planned.plan.item_parts[last].path), planned.plan.item_parts[last]
    )
    file.chmod(0o644)
    file.write_bytes(b"no Parquet")
    ids = PlannedIds(planned.home, planned.plan)
    if begun:
        ids.begin()
    assert len(ids.of(0)) == planned.plan.item_parts[0].rows
    for _ in range(2):
        with pytest.raises(ReleaseCorrupt, match=file.name):
            ids.of(last)


def test_a_run_whose_items_were_digested_while_it_worked_is_the_same_release(mill: Mill) -> None:
    """`run` works in processes, and digests meanwhile; `index` alone digests when it joins."""
    mill.write(items(50))
    apart = mill.worked()
    content = apart.index()
    planned = mill.open().open_run()
    planned.ids.begin()
    planned.home.store.delete(planned.home.release_key(planned.plan.run, "CONTENT.json"))
    assert planned.index().content_digest == content.content_digest
