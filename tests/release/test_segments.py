"""Segments: carried unread, masked while dead, compacted without being computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.support.mill import POISON, Mill, items, poisonable_package

from embedmill import Release
from embedmill.digest import digest_list
from embedmill.release.items import item_fingerprints
from embedmill.release.layout import CONTENT
from embedmill.store import LocalPaths


def vector_files(release: Release) -> dict[str, Path]:
    parts = [entry.path for segment in release.content.segments for entry in segment.parts]
    return {path: release.folder / path for path in parts}


def vectors_by_print(release: Release) -> dict[bytes, bytes]:
    return {
        fingerprint: vector.tobytes()
        for part in release.table.parts
        for fingerprint, vector in zip(digest_list(part.fingerprints), part.vectors_ND, strict=True)
    }


def live_prints(release: Release) -> set[bytes]:
    return {value for batch in release.items() for value in digest_list(item_fingerprints(batch))}


def test_a_refresh_carries_old_files_as_hard_links_and_writes_one_delta(mill: Mill) -> None:
    mill.settings = {"index": {"exact_below": 10}, "compact_above": 1.0, "work": {"shard_rows": 10}}
    mill.run(items(30))
    first = mill.live()
    mill.run([*items(29), *items(2, start=100)])
    second = mill.live()
    assert [(segment.rows, segment.live) for segment in second.content.segments] == [(30, 29), (2, 2)]
    assert second.content.segments[0].name == first.name
    assert second.content.segments[1].name == second.name
    for path, file in vector_files(first).items():
        assert (second.folder / path).samefile(file)
    index = first.content.segments[0].index
    assert index is not None
    assert (second.folder / index.path).samefile(first.folder / index.path)
    assert second.content.segments[1].index is None


def test_files_of_a_release_cannot_be_written(mill: Mill) -> None:
    mill.run(items(3))
    files = [file for file in mill.live().folder.rglob("*") if file.is_file()]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o444}


def test_a_day_without_new_contents_writes_no_segment(mill: Mill) -> None:
    mill.run(items(5))
    before = mill.live()
    mill.run(items(4))
    after = mill.live()
    assert vector_files(after).keys() == vector_files(before).keys()
    assert [(segment.rows, segment.live) for segment in after.content.segments] == [(5, 4)]


def test_compaction_moves_live_vectors_and_changes_no_bit(mill: Mill) -> None:
    mill.settings = {"compact_above": 1.0, "work": {"shard_rows": 7}}
    mill.run(items(40))
    mill.run(items(40, start=10))
    before = mill.live()
    mill.settings = {"compact_above": 0.0}
    result = mill.run(items(38, start=12))
    assert (result.compacted, result.computed) == (True, 0)
    after = mill.live()
    (segment,) = after.content.segments
    assert (segment.name, segment.rows, segment.live) == (f"{after.name}-compacted", 38, 38)
    old, new = vectors_by_print(before), vectors_by_print(after)
    assert new.keys() == live_prints(after)
    assert all(old[fingerprint] == vector for fingerprint, vector in new.items())
    prints = [value for part in after.table.parts for value in digest_list(part.fingerprints)]
    assert prints == sorted(prints)


def test_compaction_does_not_change_the_content_digest(mill: Mill, tmp_path: Path, tiny_model: Path) -> None:
    digests = []
    for limit in (0.0, 1.0):
        folder = tmp_path / str(limit)
        folder.mkdir()
        other = Mill(folder, tiny_model, settings={"compact_above": limit})
        other.run(items(20))
        other.run(items(20, start=5))
        assert other.live().content.compacted == (limit == 0.0)
        digests.append(other.live().content.content_digest)
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("limit", "changed", "compacted"),
    [(0.2, 2, False), (0.2, 3, True), (0.0, 0, False), (0.0, 1, True), (1.0, 20, False)],
)
def test_segments_are_compacted_when_more_than_the_limit_is_dead_or_delta(
    mill: Mill, limit: float, changed: int, compacted: bool
) -> None:
    """Of 20 + n rows, n are dead and n in the delta."""
    mill.settings = {"compact_above": limit}
    mill.run(items(20))
    result = mill.run([*items(20 - changed), *items(changed, start=100)])
    dead_or_delta = 2 * changed / (20 + changed)
    assert result.compacted == compacted == (dead_or_delta > limit)


def test_a_content_that_comes_back_is_reused_until_it_was_compacted_away(mill: Mill) -> None:
    mill.settings = {"compact_above": 1.0}
    mill.run(items(10))
    mill.run(items(8))
    assert mill.run(items(10)).computed == 0
    mill.settings = {"compact_above": 0.0}
    mill.run(items(8))
    assert mill.run(items(10)).computed == 2


def test_another_model_carries_no_segment(mill: Mill, tmp_path: Path) -> None:
    mill.run(items(5))
    mill.model = poisonable_package(tmp_path / "other", seed=3)
    mill.run()
    (segment,) = mill.live().content.segments
    assert (segment.name, segment.rows) == (mill.live().name, 5)


def test_a_release_without_any_live_vector_keeps_its_dead_ones_until_compaction(mill: Mill) -> None:
    mill.settings = {"compact_above": 1.0}
    mill.run(items(3))
    blank = [{"sku": "blank", "title": " ", "category": None}]
    mill.run(blank)
    release = mill.live()
    assert [(segment.rows, segment.live) for segment in release.content.segments] == [(3, 0)]
    assert release.search("item", k=5) == []
    ids, vectors = release.to_numpy()
    assert (len(ids), vectors.shape) == (0, (0, 16))
    mill.settings = {"compact_above": 0.5}
    mill.run(blank)
    assert mill.live().content.segments == ()
    assert mill.live().search("item", k=5) == []
    assert mill.run(items(2)).computed == 2


def test_a_pipeline_that_turns_to_exact_search_drops_its_graphs(mill: Mill) -> None:
    mill.settings = {"index": {"kind": "hnsw", "exact_below": 5}}
    mill.run(items(10))
    assert mill.live().content.segments[0].index is not None
    for index in ({"kind": "flat", "exact_below": 5}, {"kind": "hnsw", "exact_below": 11}):
        mill.settings = {"index": index}
        mill.run()
        assert mill.live().content.segments[0].index is None
        assert not (mill.live().folder / "index").exists()
    mill.settings = {"index": {"kind": "hnsw", "exact_below": 10}}
    mill.run()
    assert mill.live().content.segments[0].index is not None


def test_losers_files_are_swept_and_only_named_files_stay(mill: Mill) -> None:
    run = mill.worked(items(5))
    prefix = run.home.release_key(run.plan.run)
    for stray in (
        "vectors/x/part-00000.dead.arrow",
        "items/part.parquet",
        "index/x.faiss",
        "goldens/x.arrow",
    ):
        run.home.store.put(f"{prefix}/{stray}", b"left by an attempt that died")
    run.run()
    release = mill.live()
    content = release.content
    named = {entry.path for entry in (*content.model, *content.items, *content.goldens, content.quarantine)}
    there = {str(file.relative_to(release.folder)) for file in release.folder.rglob("*") if file.is_file()}
    documents = {CONTENT, "MANIFEST.json", "gates.json", "report.html"}
    assert there == named | set(vector_files(release)) | documents


def test_many_items_make_several_parts_in_one_order_of_ids(mill: Mill, tmp_path: Path) -> None:
    """Only the part with the lost item is written again; the others are the planned files."""
    mill.model = poisonable_package(tmp_path / "own")
    rows = [{"sku": f"s{n}", "title": f"item {n % 50}", "category": "all", "price": n} for n in range(40_000)]
    rows[123]["title"] = POISON
    run = mill.worked(rows)
    result = run.run()
    assert (result.embedded, result.computed, result.quarantined) == (39_999, 50, 1)
    release = mill.live()
    assert len(release.content.items) > 2
    assert isinstance(run.home.store, LocalPaths)
    planned = [run.home.store.path(run.home.key(entry.path)) for entry in run.plan.item_parts]
    kept = [release.folder / entry.path for entry in release.content.items]
    assert sum(not one.samefile(other) for one, other in zip(planned, kept, strict=True)) == 1
    table = pa.Table.from_batches(release.items(), schema=release.item_schema)
    assert sorted(table.column("id").to_pylist()) == sorted(f"s{n}" for n in range(40_000) if n != 123)
    ids, vectors = release.to_numpy()
    contents = {int(str(sku)[1:]) % 50: vector.tobytes() for sku, vector in zip(ids, vectors, strict=True)}
    assert len(set(contents.values())) == 50
    assert np.isfinite(vectors).all()
    assert mill.run(rows[1000:]).computed == 0
