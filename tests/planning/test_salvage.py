"""A new plan takes over what runs that were never published had finished; nothing is computed twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.models import tiny_text_package
from tests.support.mill import POISON, Mill, items, poisonable_package, reweighted

from embedmill.errors import GateFailed
from embedmill.planned import PlannedRun
from embedmill.release.collect import collect
from embedmill.release.goldens import read_goldens
from embedmill.release.layout import TERMINAL
from embedmill.release.runs import abandon, commit_records, unpublished_runs
from embedmill.release.verdicts import verdicts_on
from embedmill.store.faults import Script
from embedmill.store.faulty import FaultyStore
from embedmill.work import WorkerOptions, work


def sharded(mill: Mill, shard_rows: int = 4) -> Mill:
    mill.settings |= {"work": {"shard_rows": shard_rows}}
    return mill


def vectors(mill: Mill) -> dict[str, bytes]:
    ids, found = mill.live().to_numpy()
    return {str(i): np.ascontiguousarray(v).tobytes() for i, v in zip(ids, found, strict=True)}


def vector_files(run: PlannedRun) -> list[Path]:
    folder = Path(run.home.store.url) / run.home.release_key(run.plan.run)
    return sorted((folder / "vectors").rglob("*.arrow"))


def test_a_changed_catalog_costs_only_what_is_new_in_it(mill: Mill) -> None:
    left = sharded(mill).worked(items(20))
    plan = mill.planned(items(23)).plan
    assert (plan.compute, plan.reused_vectors) == (3, 20)
    assert [saved.run for saved in plan.salvaged] == [left.plan.run]
    assert plan.why.endswith(f"what run {left.plan.run} had finished is taken over")
    result = mill.run()
    assert (result.computed, result.embedded, result.reused) == (3, 3, 20)


def test_salvaged_vectors_are_those_that_a_calm_run_computes(mill: Mill, tmp_path: Path) -> None:
    sharded(mill).worked(items(20))
    mill.run(items(23))
    salvaged = vectors(mill)
    (tmp_path / "calm").mkdir()
    calm = Mill(tmp_path / "calm", mill.model)
    calm.run(items(23))
    expected = vectors(calm)
    assert salvaged.keys() == expected.keys()
    for key, bits in expected.items():
        np.testing.assert_allclose(np.frombuffer(salvaged[key], "f4"), np.frombuffer(bits, "f4"), atol=1e-6)


def test_of_a_run_that_died_half_way_its_committed_shards_are_taken_over(mill: Mill) -> None:
    left = sharded(mill).worked(items(20))
    first = next(commit_records(left.home, left.plan))
    for shard in left.plan.shards[1:]:
        left.home.store.delete(left.home.run_key(left.plan.run, "commits", f"{shard.name}.json"))
    plan = mill.planned(items(21)).plan
    assert plan.compute == 21 - first.rows
    assert mill.run().embedded == 21 - first.rows


def test_runs_of_several_nights_are_all_taken_over(mill: Mill) -> None:
    first = sharded(mill).worked(items(8))
    second = mill.worked(items(12))
    assert second.plan.compute == 4
    plan = mill.planned(items(14)).plan
    assert plan.compute == 2
    assert {saved.run for saved in plan.salvaged} == {first.plan.run, second.plan.run}
    assert mill.run().total == 14
    assert len(vectors(mill)) == 14


def test_only_runs_whose_vectors_are_needed_leave_files_in_the_release(mill: Mill) -> None:
    sharded(mill).run(items(4))
    mill.worked([*items(4), *items(3, start=100)])
    mill.run(items(5))
    names = {segment.name for segment in mill.live().content.segments}
    folders = {path.name for path in (mill.live().folder / "vectors").iterdir()}
    assert names == folders
    assert len(names) == 2


def test_the_other_run_may_vanish_afterwards(mill: Mill) -> None:
    left = sharded(mill).worked(items(20))
    run = mill.planned(items(21))
    abandon(left.home, left.plan.run, "collected")
    for info in list(left.home.store.list(left.home.release_key(left.plan.run))):
        left.home.store.delete(info.key)
    work(run.home, run.plan.run, WorkerOptions("w"))
    assert run.run().reused == 20


@pytest.mark.parametrize("damage", ["gone", "flipped"])
def test_what_is_damaged_is_computed_again(mill: Mill, damage: str) -> None:
    left = sharded(mill).worked(items(20))
    file = vector_files(left)[0]
    file.chmod(0o644)
    if damage == "gone":
        file.unlink()
    else:
        data = bytearray(file.read_bytes())
        data[-200] ^= 1
        file.write_bytes(data)
    lost = next(commit_records(left.home, left.plan)).rows
    plan = mill.planned(items(21)).plan
    assert plan.compute == 1 + lost
    assert mill.run().total == 21


def test_another_encoder_takes_over_nothing(mill: Mill, tmp_path: Path) -> None:
    sharded(mill).worked(items(5))
    mill.model = tiny_text_package(tmp_path / "other", seed=1)
    plan = mill.planned().plan
    assert (plan.compute, plan.salvaged) == (5, ())


def test_vectors_that_a_gate_found_bad_are_not_taken_over(mill: Mill, tmp_path: Path) -> None:
    """As of a GPU that computes nonsense: zeros are no reason to quarantine, but a gate sees it."""
    mill.model = reweighted(tmp_path / "own", lambda values: values * 0)
    with pytest.raises(GateFailed, match="non-zero") as caught:
        sharded(mill).run(items(12))
    assert "embedmill cancel" in caught.value.hint
    mill.open().cancel()
    plan = mill.planned().plan
    assert (plan.compute, plan.salvaged) == (12, ())


def test_nor_are_those_of_the_runs_that_it_had_taken_them_from(mill: Mill, tmp_path: Path) -> None:
    """The first run was never checked; what it computed was found bad in the second one."""
    mill.model = reweighted(tmp_path / "own", lambda values: values * 0)
    sharded(mill).worked(items(12))
    with pytest.raises(GateFailed, match="non-zero"):
        mill.run(items(13))
    mill.open().cancel()
    plan = mill.planned().plan
    assert (plan.compute, plan.salvaged) == (13, ())


def test_rows_that_could_not_be_embedded_are_tried_again(mill: Mill, tmp_path: Path) -> None:
    mill.model = poisonable_package(tmp_path / "own")
    rows = [*items(6), {"sku": "bad", "title": f"{POISON} x", "category": "all", "price": 1.0}]
    sharded(mill).worked(rows)
    plan = mill.planned([*rows, *items(1, start=50)]).plan
    assert plan.compute == 2
    assert mill.run().quarantined == 1


def test_a_release_of_nothing_but_salvaged_vectors_has_goldens(mill: Mill) -> None:
    sharded(mill).worked(items(30))
    result = mill.run([{**item, "price": 0.0} for item in items(30)])
    assert (result.computed, result.reused) == (0, 30)
    names = {entry.path.split(".")[0] for entry in mill.live().content.goldens}
    assert names == {"goldens/item", "goldens/query_text"}
    assert all((entry.rows or 0) >= 8 for entry in mill.live().content.goldens)


def test_damaged_inputs_of_a_salvaged_run_only_cost_goldens(mill: Mill) -> None:
    left = sharded(mill).worked(items(30))
    run = mill.planned([{**item, "price": 0.0} for item in items(30)])
    (saved,) = run.plan.salvaged
    for entry in saved.frozen[1:]:
        run.home.store.delete(run.home.key(entry.path))
    assert run.run().reused == 30
    assert left.plan.run != run.plan.run
    assert 0 < sum(entry.rows or 0 for entry in mill.live().content.goldens) < 60


def test_runs_that_were_collected_cost_a_plan_no_request_for_ever(mill: Mill) -> None:
    mill.settings["store"] = f"memory://{mill.root.name}"
    for count in (5, 6, 7):
        left = mill.planned(items(count))
        mill.open().cancel(left.plan.run)
    mill.run(items(8))
    collect(mill.home, clock=lambda: left.home.world.now() + timedelta(days=8))
    counted = FaultyStore(mill.home.store, Script())
    assert list(unpublished_runs(replace(mill.home, store=counted))) == []
    assert not [call.key for call, _ in counted.trace if call.key.endswith(TERMINAL)]


def test_what_a_run_commits_after_it_was_salvaged_is_taken_over_too_and_passes_the_gates(mill: Mill) -> None:
    """It was still at work when another took over what it had by then, and published that."""
    left = sharded(mill).worked(items(20))
    later = left.plan.shards[-1].name
    key = left.home.run_key(left.plan.run, "commits", f"{later}.json")
    record = left.home.store.get(key)
    left.home.store.delete(key)
    early = [row for row in items(20) if row["sku"] not in skus_of(left, later)]
    mill.run(early)
    left.home.store.put(key, record)
    plan = mill.planned(items(20)).plan
    assert (plan.compute, [saved.run for saved in plan.salvaged]) == (0, [left.plan.run])
    mill.run()
    names = [segment.name for segment in mill.live().content.segments]
    assert len(names) == len(set(names))
    assert len(vectors(mill)) == 20
    gates = verdicts_on(mill.home, mill.live().name)
    assert gates is not None
    new = {verdict.gate: verdict.message for verdict in gates.verdicts}["finite"]
    assert not new.startswith("0 of 0 "), "the gates did not look at what was taken over"


def skus_of(run: PlannedRun, shard: str) -> set[str]:
    """Ids of the items whose texts are in this shard."""
    (plan,) = (each for each in run.plan.shards if each.name == shard)
    titles = read_goldens(Path(run.home.store.url) / run.home.key(plan.file.path)).column("title").to_pylist()
    return {f"s{title.split()[1]}" for title in titles}


def test_a_run_that_two_releases_have_passed_by_is_not_copied_any_more(mill: Mill) -> None:
    left = sharded(mill).worked(items(6))
    mill.run(items(7))
    mill.run(items(8))
    mill.run(items(9))
    plan = mill.planned([{"sku": "new", "title": "quite new", "category": "all", "price": 1.0}]).plan
    folder = Path(left.home.store.url) / left.home.release_key(plan.run)
    assert not list(folder.rglob(f"*{left.plan.run}*"))
