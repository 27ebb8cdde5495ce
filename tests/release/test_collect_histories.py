"""Random histories of runs, rollbacks, pins, crashes and collectors: nothing that counts is lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from tests.support.mill import Mill, items
from tests.support.upkeep import Crashed, at_call, crash, in_days, orphan_share, sizes, watched

from embedmill.errors import Held, PublishError, PublishLost, ReleaseMissing
from embedmill.release.admin import pin, rollback, unhold, unpin, verify
from embedmill.release.collect import Policy, collect
from embedmill.release.layout import Home
from embedmill.release.log import read_history
from embedmill.spec.reports import RunReport

STEPS = 10
POLICY = Policy(keep=2)
REFUSED = (PublishError, PublishLost, ReleaseMissing, Held)


@pytest.mark.soak(quick=3, large=300)
def test_a_random_history_keeps_what_it_must_and_leaves_no_orphans(mill: Mill, seed: int) -> None:
    if seed % 3:
        mill.settings["store"] = f"memory://{mill.root.name}"
    history = RandomHistory(mill, random.Random(seed))
    for _ in range(STEPS):
        history.step()
        history.check()
    for _ in range(2):
        collect(mill.home, POLICY, clock=in_days(8))
        history.check()
    assert orphan_share(mill.home) <= 0.01
    unhold(mill.home)
    number = read_history(mill.home).next_number
    assert history.run().number >= number
    history.check()


@dataclass
class RandomHistory:
    """What operators, runs, crashes and collectors do to a store, one random thing after the other."""

    mill: Mill
    random: random.Random
    rows: int = 8
    log: dict[str, bytes] = field(default_factory=dict)
    did: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home: Home = self.mill.home
        self.run()

    def step(self) -> None:
        likely: dict[Callable[[], object], int] = {
            self.run: 4,
            self.leave_open: 2,
            self.plan_and_die: 1,
            self.write_late: 2,
            self.collect: 2,
            self.collect_and_die: 2,
            self.collect_beside_another: 3,
            **dict.fromkeys(self.small, 1),
        }
        act = self.random.choices([*likely], [*likely.values()])[0]
        self.did.append(act.__name__)
        with suppress(*REFUSED):
            act()

    @property
    def small(self) -> list[Callable[[], object]]:
        """What takes an operator no time."""
        return [self.rollback, self.unhold, self.pin, self.unpin]

    def check(self) -> None:
        """The log only grows; what is live, pinned or newest is listed, and what is listed is whole."""
        home, history = self.home, read_history(self.home)
        log = {key: home.store.get(key) for key in sizes(home) if "/log/" in key}
        assert self.log.items() <= log.items()
        self.log = log
        assert history.live is not None
        published = [entry.release for entry in history.entries if entry.kind == "publish"]
        must = {history.live.release, *history.pinned, *published[-POLICY.keep :]}
        listed = {release.release for release in history.published()}
        assert must <= listed, self.did
        for release in listed:
            verify(home, release)

    def some_release(self) -> str:
        return self.random.choice([release.release for release in read_history(self.home).published()])

    # What may happen

    def run(self) -> RunReport:
        """A run over a catalog that has grown; on hold it stays a candidate."""
        self.rows += 1
        return self.mill.run(items(self.rows))

    def leave_open(self) -> None:
        self.rows += 1
        stage = self.random.choice([self.mill.planned, self.mill.worked, self.mill.checked])
        stage(items(self.rows))

    def plan_and_die(self) -> None:
        name = self.home.new_run()
        self.home.store.put(self.home.run_key(name, "frozen", "00000.arrow"), b"x" * 5000)
        self.home.store.put(self.home.release_key(name, "model", "model.yaml"), b"x" * 5000)

    def write_late(self) -> None:
        names = sorted({key.split("/")[2] for key in sizes(self.home) if key.endswith("/terminal.json")})
        name, late = self.random.choice(names), f"late-{self.random.random()}"
        self.home.store.put(self.home.release_key(name, "vectors", name, late), b"x" * 5000)
        self.home.store.put(self.home.run_key(name, "commits", late), b"x" * 5000)

    def rollback(self) -> None:
        rollback(self.home, self.some_release())

    def unhold(self) -> None:
        unhold(self.home)

    def pin(self) -> None:
        pin(self.home, self.some_release())

    def unpin(self) -> None:
        unpin(self.home, self.some_release())

    def collect(self) -> None:
        before = sizes(self.home)
        shown = collect(self.home, POLICY, dry_run=True)
        assert sizes(self.home) == before
        assert collect(self.home, POLICY).deleted == shown.deleted

    def collect_and_die(self) -> None:
        dying = at_call(self.random.randrange(80), crash)
        home = watched(self.home, **{self.random.choice(["before", "after"]): dying})
        with suppress(Crashed):
            collect(home, POLICY, clock=in_days(self.random.choice([0, 8])))

    def collect_beside_another(self) -> None:
        """Something else happens between two of the collector's calls."""
        act = self.random.choice([*self.small, self.rollback, self.pin, self.run, self.collect])

        def beside() -> None:
            self.did.append(f"… {act.__name__}")
            with suppress(*REFUSED):
                act()

        home = watched(self.home, before=at_call(self.random.randrange(40), beside))
        collect(home, POLICY, clock=in_days(self.random.choice([0, 8])))
