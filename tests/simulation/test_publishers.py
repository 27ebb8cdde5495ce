"""Sixteen publishers on one base: exactly one wins, and each of them knows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.mill import Mill, items
from tests.support.s3 import S3, as_identity
from tests.support.stores import troubled

from embedmill.errors import PublishLost
from embedmill.release.layout import CONTENT, GATES, PLAN, Home
from embedmill.release.log import read_history
from embedmill.release.publish import publish
from embedmill.release.verdicts import verdicts_on
from embedmill.spec.documents import Content, Gates, LogEntry, Plan, ReleaseName
from embedmill.store import Store, open_store
from embedmill.store.memory import MemoryStore

PUBLISHERS = 16
Competitor = tuple[Plan, Content, Gates]


@pytest.fixture
def checked(mill: Mill) -> tuple[Home, Competitor]:
    """A checked candidate, on a local disk."""
    run = mill.checked(items(5))
    content = run.home.read(Content, run.home.release_key(run.plan.run, CONTENT))
    gates = verdicts_on(run.home, run.plan.run)
    assert gates is not None
    return run.home, (run.plan, content, gates)


@pytest.mark.soak(quick=3, large=100)
def test_of_sixteen_publishers_in_memory_one_wins(checked: tuple[Home, Competitor], seed: int) -> None:
    compete(MemoryStore(f"publishers {seed}"), lambda store, _: store, checked)


@pytest.mark.soak(quick=3, large=100)
def test_of_sixteen_publishers_whose_answers_are_lost_one_wins(
    checked: tuple[Home, Competitor], seed: int
) -> None:
    compete(
        MemoryStore(f"publishers {seed}"),
        lambda store, number: troubled(store, seed * PUBLISHERS + number),
        checked,
    )


@pytest.mark.soak(quick=1, large=10)
def test_of_sixteen_publishers_on_a_real_s3_server_one_wins(
    seaweed: S3, monkeypatch: pytest.MonkeyPatch, checked: tuple[Home, Competitor], seed: int
) -> None:
    as_identity(monkeypatch, seaweed.admin, seaweed.endpoint)
    compete(open_store(seaweed.new_url()), lambda store, _: open_store(store.url), checked)


def compete(
    store: Store, as_seen_by: Callable[[Store, int], Store], checked: tuple[Home, Competitor]
) -> None:
    """Two rounds: on an empty log, and on what the first round published."""
    home = Home(store, checked[0].pipeline)
    for round_ in range(2):
        base = read_history(home).live
        rivals = [cloned(checked, home, f"run-{round_}-{number}", base) for number in range(PUBLISHERS)]
        start = threading.Barrier(PUBLISHERS)

        def run(number: int, rivals: list[Competitor] = rivals, start: threading.Barrier = start) -> object:
            own = Home(as_seen_by(store, number), home.pipeline)
            start.wait()
            try:
                return publish(own, *rivals[number])
            except PublishLost as lost:
                return lost

        with ThreadPoolExecutor(PUBLISHERS) as pool:
            outcomes = list(pool.map(run, range(PUBLISHERS)))
        wins = [outcome for outcome in outcomes if isinstance(outcome, LogEntry)]
        entries = read_history(home).entries
        assert len(entries) == round_ + 1
        assert wins == [entries[-1]]
        assert sum(isinstance(outcome, PublishLost) for outcome in outcomes) == PUBLISHERS - 1


def cloned(checked: tuple[Home, Competitor], target: Home, run: str, base: ReleaseName | None) -> Competitor:
    """The candidate under another name and on another base, in the target's store."""
    source, (plan, content, gates) = checked
    own_plan = plan.model_copy(update={"run": run, "base": base})
    own = content.model_copy(update={"release": run, "base": base})
    prefix = source.release_key(plan.run)
    for info in source.store.list(prefix):
        target.store.put(
            target.release_key(run, info.key.removeprefix(prefix + "/")), source.store.get(info.key)
        )
    target.store.put(target.release_key(run, CONTENT), own.to_bytes())
    target.store.put(target.run_key(run, PLAN), own_plan.to_bytes())
    own_gates = gates.model_copy(update={"release": run})
    target.store.put(target.run_key(run, GATES), own_gates.to_bytes())
    return own_plan, own, own_gates
