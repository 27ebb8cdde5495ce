"""A log that lacks an entry, which HEAD does not tell: nobody acts on what it seems to say."""

from __future__ import annotations

import pytest
from tests.support.mill import Mill, items
from tests.support.upkeep import in_days, sizes

from embedmill.errors import LogGap
from embedmill.planned import PlannedRun
from embedmill.release.collect import Policy, collect
from embedmill.release.layout import Home
from embedmill.release.log import read_history
from embedmill.release.publish import LOG_LOOK_S, BaseWatch
from embedmill.release.runs import terminal_of
from embedmill.release.transfer import copy_release
from embedmill.store.memory import MemoryStore
from embedmill.world import World


class Later(World):
    """It is a while later at every look."""

    passed_s = 0.0

    def monotonic(self) -> float:
        self.passed_s += LOG_LOOK_S
        return self.passed_s


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "sleep", lambda *_: None)


@pytest.fixture
def healthy(mill: Mill) -> PlannedRun:
    """A checked run on the live release 3."""
    for count in (8, 9, 10):
        mill.run(items(count))
    return mill.checked(items(12))


def lose(home: Home) -> bytes:
    """Entry 2, and HEAD; what is read seems whole."""
    entry = home.store.get(home.log_key(2))
    home.store.delete(home.log_key(2))
    home.store.delete(f"{home.pipeline}/HEAD")
    assert read_history(home).next_number == 2
    return entry


def test_no_run_is_closed_nor_published_for_a_release_that_only_seems_to_be_live(
    mill: Mill, healthy: PlannedRun
) -> None:
    home, run = healthy.home, healthy.plan.run
    entry, before = lose(home), sizes(home)
    watch = BaseWatch(Home(home.store, home.pipeline, Later()), healthy.plan)
    for act in (mill.open().plan, mill.open().run, healthy.publish, watch.look):
        with pytest.raises(LogGap):
            act()
    assert terminal_of(home, run) is None
    assert sizes(home) == before
    home.store.put(home.log_key(2), entry)
    assert mill.open().run().release == run


@pytest.mark.parametrize("dry_run", [True, False])
def test_nothing_is_collected_by_half_a_log(healthy: PlannedRun, dry_run: bool) -> None:
    home = healthy.home
    lose(home)
    before = sizes(home)
    for clock in (None, in_days(30)):
        with pytest.raises(LogGap):
            collect(home, Policy(keep=1), clock=clock, dry_run=dry_run)
    assert sizes(home) == before


def test_nothing_is_copied_to_be_live_where_the_log_lacks_an_entry(mill: Mill, healthy: PlannedRun) -> None:
    other = Home(MemoryStore(), "test")
    for number in ("1", "2", "3"):
        copy_release(mill.home, number, other, into_log=True)
    name = healthy.publish().release
    lose(other)
    before = sizes(other)
    with pytest.raises(LogGap):
        copy_release(mill.home, name, other, into_log=True)
    assert sizes(other) == before
