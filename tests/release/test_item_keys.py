"""What a plan leaves of its items is what their files say, and a candidate is the same without it.

Who has it does not hash these files before they are sealed: damage is found by whoever comes next.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.support.mill import OPEN_GATES, POISON, Mill, items, poisonable_package

from embedmill.catalog import id_digests
from embedmill.errors import ReleaseCorrupt
from embedmill.planned import PlannedRun
from embedmill.release.item_keys import ItemKeys, ItemKeysFile, KnownKeys
from embedmill.release.items import ID, OWN_COLUMNS, is_embedded, item_fingerprints, read_part
from embedmill.release.layout import CONTENT
from embedmill.release.runs import terminal_of
from embedmill.spec.documents import Content


def second_day() -> list[dict[str, Any]]:
    """Items that changed, came, went, have no text, have one id, or of which the model makes no vector."""
    rows = [*items(90)[10:], *items(20, start=500), {"sku": "bad", "title": POISON, "category": "all"}]
    rows[3]["title"], rows[5]["sku"] = "another", rows[6]["sku"]
    rows[4] |= {"title": None, "category": None}
    return rows


@pytest.fixture
def run(mill: Mill, tmp_path: Path) -> PlannedRun:
    """The second day's run, with all its vectors."""
    mill.model, mill.settings = poisonable_package(tmp_path / "own"), {"compact_above": 1.0}
    mill.run(items(90))
    return mill.worked(second_day())


def candidate(run: PlannedRun, keys: KnownKeys | None) -> Content:
    """What the join makes of what is left of the plan's items; of nothing, as in another process."""
    run.home.store.delete(run.home.release_key(run.plan.run, CONTENT))
    return replace(run, keys=keys).index()


def left(run: PlannedRun) -> tuple[str, ItemKeys]:
    """The SHA-256 of the only item file, and what the plan has left of it."""
    assert run.keys is not None
    ((sha256, keys),) = run.keys.items()
    return sha256, keys


def test_a_plan_leaves_what_its_item_files_say(run: PlannedRun) -> None:
    (entry,) = run.plan.item_parts
    sha256, keys = left(run)
    part = read_part(run.home.verified(run.home.key(entry.path), entry), OWN_COLUMNS)
    assert sha256 == entry.sha256
    assert keys.ids.tobytes() == id_digests(part.column(ID)).tobytes()
    assert keys.prints.tobytes() == item_fingerprints(part).tobytes()
    assert keys.embedded.tolist() == is_embedded(part).tolist()
    assert keys.embedded.sum() == len(part) - 1


def test_a_candidate_is_the_same_with_and_without_it(run: PlannedRun) -> None:
    with_it, without = candidate(run, run.keys), candidate(run, None)
    assert with_it.content_digest == without.content_digest
    assert [entry.sha256 for entry in with_it.items] == [entry.sha256 for entry in without.items]
    assert with_it.quarantine.sha256 == without.quarantine.sha256
    assert with_it.segments == without.segments
    assert (with_it.reused, with_it.embedded, with_it.empty, with_it.quarantined) == (76, 21, 1, 3)
    assert (without.reused, without.embedded, without.empty, without.quarantined) == (76, 21, 1, 3)


def test_it_is_used_for_the_very_file_alone(run: PlannedRun) -> None:
    """Wrong keys show whether they were looked at."""
    true = candidate(run, None).content_digest
    sha256, keys = left(run)
    wrong = keys._replace(ids=keys.ids[::-1])
    assert candidate(run, {"0" * 64: wrong}).content_digest == true
    assert candidate(run, {sha256: wrong}).content_digest != true


def test_a_resumed_run_has_nothing_of_it(mill: Mill, run: PlannedRun) -> None:
    resumed = mill.planned()
    assert resumed.resumed
    assert resumed.keys is None
    assert resumed.index().content_digest == candidate(run, run.keys).content_digest


def holder_of(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array that this one is a view of, behind all others."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def test_keys_are_mapped_and_outlive_the_name_of_their_file(tmp_path: Path) -> None:
    keys = ItemKeys(
        np.arange(20_000).astype("S16"), np.arange(20_000, 40_000).astype("S16"), np.arange(20_000) % 3 > 0
    )
    file = ItemKeysFile(tmp_path / "keys")
    with file:
        file.add([keys.only(keys.embedded), keys.only(~keys.embedded)])
        file.add([])
    before = pa.total_allocated_bytes()
    whole, empty = file.mapped()
    (tmp_path / "keys").unlink()
    assert pa.total_allocated_bytes() - before < 20_000
    assert not any(holder_of(array).flags.owndata for array in whole)
    order = np.argsort(~keys.embedded, kind="stable")
    assert whole.ids.tobytes() == keys.ids[order].tobytes()
    assert whole.prints.tobytes() == keys.prints[order].tobytes()
    assert whole.embedded.tolist() == keys.embedded[order].tolist()
    assert len(empty.ids) == len(empty.prints) == len(empty.embedded) == 0


def ask(mill: Mill) -> None:
    """A check then reads a candidate's items."""
    query = {"query": "item 3. all", "relevant": {"s3": 1}}
    (mill.root / "queries.jsonl").write_text(json.dumps(query) + "\n")
    mill.settings["gates"] = {**OPEN_GATES, "relevance": {"queries": "queries.jsonl", "k": 5}}


@pytest.mark.parametrize("store", ["a folder", "remote"])
def test_damage_to_a_planned_item_file_that_a_check_meets_closes_the_run(
    mill: Mill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    """A gate reads a local candidate's files as they lie; a remote one's are fetched, and hashed, for it."""
    ask(mill)
    if store == "remote":
        monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))
        mill.settings["store"] = f"memory://{tmp_path.name}"
    mill.run(items(10))
    run = mill.worked(items(12))
    (entry,) = run.plan.item_parts
    key = run.home.key(entry.path)
    run.home.store.put(key, run.home.store.get(key)[:-1])
    run.index()
    with pytest.raises(ReleaseCorrupt) as caught:
        run.check()
    assert caught.value.hint == "run again: it plans a new run"
    closed = terminal_of(run.home, run.plan.run)
    assert closed is not None
    assert (closed.outcome, closed.why) == ("abandon", caught.value.message)
    result = mill.run()
    assert (result.resumed, result.number, result.computed) == (False, 2, 0)


def test_one_run_plans_anew_where_a_check_meets_damage(mill: Mill) -> None:
    ask(mill)
    damaged: list[str] = []

    def on_planned(planned: PlannedRun) -> None:
        """The first plan's item file is damaged, as soon as it is there."""
        if not damaged:
            key = planned.home.key(planned.plan.item_parts[0].path)
            planned.home.store.put(key, planned.home.store.get(key)[:-1])
        damaged.append(planned.plan.run)

    mill.write(items(10))
    result = mill.open().run(on_planned=on_planned)
    assert len(damaged) == 2
    assert (result.release, result.number) == (damaged[1], 1)


def test_the_file_of_keys_is_closed_however_its_writing_ends(tmp_path: Path) -> None:
    with suppress(KeyError), ItemKeysFile(tmp_path / "keys") as file:
        file.add([])
        raise KeyError
    assert pa.ipc.open_file(str(tmp_path / "keys")).num_record_batches == 1
