"""A candidate is made of commit records, and only if every item has a vector or a reason."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.mill import POISON, Mill, items, poisonable_package, quarantined

from embedmill.errors import AccountingError, ReleaseCorrupt
from embedmill.planned import PlannedRun
from embedmill.release.items import write_items
from embedmill.release.layout import CONTENT
from embedmill.release.vectors import VectorPart, write_vectors
from embedmill.spec.documents import CommitRecord


def only_commit(run: PlannedRun) -> tuple[str, CommitRecord]:
    (shard,) = run.plan.shards
    key = run.home.run_key(run.plan.run, "commits", f"{shard.name}.json")
    return key, run.home.read(CommitRecord, key)


def test_indexing_twice_reads_what_the_first_time_made(mill: Mill) -> None:
    run = mill.worked(items(5))
    first = run.index()
    before = [(info.key, info.etag) for info in run.home.store.list(run.home.release_key(run.plan.run))]
    assert run.index() == first
    assert [
        (info.key, info.etag) for info in run.home.store.list(run.home.release_key(run.plan.run))
    ] == before


def test_indexing_that_died_half_way_is_done_again_and_leaves_no_rest(mill: Mill) -> None:
    run = mill.indexed(items(5))
    first = run.index()
    run.home.store.delete(run.home.release_key(run.plan.run, CONTENT))
    again = run.index()
    assert again.content_digest == first.content_digest
    files = {info.key for info in run.home.store.list(run.home.release_key(run.plan.run, "items"))}
    assert files == {run.home.release_key(run.plan.run, entry.path) for entry in again.items}


def test_an_item_without_vector_and_reason_stops_the_run(mill: Mill, tmp_path: Path) -> None:
    """As if a worker had lost a row and said that all is well."""
    run = mill.worked(items(5))
    key, record = only_commit(run)
    assert record.vectors is not None
    part = VectorPart.open(run.home.verified(run.home.key(record.vectors.path), record.vectors))
    short = tmp_path / "short.arrow"
    write_vectors(short, part.fingerprints[1:], part.vectors_ND[1:])
    place = run.home.release_key(run.plan.run, "vectors", run.plan.run, "part-00000.short.arrow")
    entry = run.home.keep(place, short, relative_to=run.home.pipeline, rows=4)
    run.home.store.put(key, record.model_copy(update={"vectors": entry}).to_bytes())
    with pytest.raises(AccountingError, match="has neither a vector nor a reason why not") as caught:
        run.run()
    assert caught.value.hint == "run again: it plans a new run"
    assert mill.open().live() is None
    result = mill.run()
    assert (result.embedded, result.reused) == (1, 4)


def test_planned_items_that_vanished_stop_the_run(mill: Mill) -> None:
    run = mill.worked(items(5))
    run.home.store.delete(run.home.key(run.plan.item_parts[0].path))
    with pytest.raises(ReleaseCorrupt, match=r"part-00000\.parquet: is missing"):
        run.index()


def test_damaged_items_are_not_sealed_afresh_where_their_file_is_written_again(
    mill: Mill, tmp_path: Path
) -> None:
    """One item is refused, so that the others go into a new file, with a SHA-256 of its own."""
    mill.model = poisonable_package(tmp_path / "own")
    run = mill.worked([*items(5), {"sku": "bad", "title": POISON, "price": 7.0}])
    (entry,) = run.plan.item_parts
    file = run.home.verified(run.home.key(entry.path), entry)
    rows = pq.read_table(file)
    at = rows.schema.get_field_index("price")
    file.chmod(0o644)
    write_items(file, rows.set_column(at, rows.field(at), pa.array([9.5] * 6)))
    with pytest.raises(ReleaseCorrupt, match=r"part-00000\.parquet: its bytes are not those"):
        run.index()


def test_counts_that_do_not_add_up_stop_the_run(mill: Mill) -> None:
    run = mill.worked(items(5))
    wrong = run.plan.model_copy(update={"items": run.plan.items.model_copy(update={"total": 6})})
    with pytest.raises(AccountingError, match="read 6 items, but embedded 5"):
        PlannedRun(run.pipeline, wrong, resumed=False).index()


def test_reasons_of_the_plan_and_of_the_work_are_in_one_table(mill: Mill, tmp_path: Path) -> None:
    mill.model = poisonable_package(tmp_path / "own")
    rows = [
        *items(3),
        {"title": "no id"},
        {"sku": "bad", "title": POISON},
        {"sku": "bad too", "title": POISON},
    ]
    result = mill.run(rows)
    assert (result.total, result.embedded, result.quarantined) == (6, 3, 3)
    found = {(row["id"], row["row"], row["reason"]) for row in quarantined(mill.live())}
    assert found == {(None, 3, "null-id"), ("bad", None, "not-finite"), ("bad too", None, "not-finite")}


def test_content_has_every_profile_once(mill: Mill) -> None:
    mill.settings = {"work": {"shard_rows": 2, "batch_tokens": 100}}
    mill.run(items(10))
    (profile,) = mill.live().content.profiles
    assert (profile.device, profile.batch_tokens) == ("cpu", 100)
