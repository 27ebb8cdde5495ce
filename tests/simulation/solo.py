"""One process after the other on one pipeline: what it does step by step, and what a fault at a step leaves.

A step is a verb and a kind of key, such as `put_if_absent simulated/runs/*/commits/*`, before it or after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.simulation.history import Process, Stage, own_folders
from tests.simulation.promises import WatchedStore
from tests.simulation.scheduler import Scheduler
from tests.simulation.world import PATIENCE, SimulatedWorld

from embedmill import Pipeline
from embedmill.release.layout import Home
from embedmill.release.log import read_history
from embedmill.spec.reports import RunReport
from embedmill.store.faults import Call, Faults, NoFaults
from embedmill.store.faulty import Crashed, FaultyStore, InFlight
from embedmill.store.retrying import RetryingStore

FIRST, REFRESH = 0, 2
"""Catalogs of a first release, and of the refresh whose every step is disturbed; it compacts segments."""


@dataclass(frozen=True)
class Step:
    """A verb and the pattern of a key; `count` is how often a calm refresh takes it."""

    verb: str
    key: str
    count: int = 1


@dataclass(frozen=True)
class Beginning:
    """A store with a first release, and when that was published: made once, begun with again and again."""

    stage: Stage
    template: Pipeline
    store: WatchedStore
    now_s: float

    @classmethod
    def of(cls, stage: Stage) -> Beginning:
        """Publish a first release, undisturbed."""
        template = Pipeline.from_file(stage.folder / "pipeline.yaml")
        scheduler, store = Scheduler("beginning"), WatchedStore(template.spec.name)
        stage.feed(FIRST)
        world = SimulatedWorld(scheduler, "life 0")
        with own_folders():
            Process(template.spec, template.root, Home(store, template.spec.name, world)).run()
        return cls(stage, template, store, scheduler.now_s)


@dataclass
class Solo:
    """A pipeline in memory with a first release, and processes that are started one after the other."""

    beginning: Beginning
    seed: int
    scheduler: Scheduler = field(init=False)
    store: WatchedStore = field(init=False)
    in_flight: InFlight = field(default_factory=InFlight)
    lives: int = 0

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.seed)
        self.scheduler.now_s = self.beginning.now_s
        self.template = self.beginning.template
        self.store = self.beginning.store.copy()
        self.beginning.stage.feed(REFRESH)

    def process(self, faults: Faults | None = None) -> tuple[Process, FaultyStore]:
        """A new process, and the store that it sees, whose trace tells what it did."""
        self.lives += 1
        world = SimulatedWorld(self.scheduler, f"life {self.lives}")
        faulty = FaultyStore(
            self.store, faults or NoFaults(), in_flight=self.in_flight, sleep=self.scheduler.sleep
        )
        patient = RetryingStore(faulty, PATIENCE, sleep=world.sleep, clock=world.monotonic)
        home = Home(patient, self.template.spec.name, world)
        return Process(self.template.spec, self.template.root, home), faulty

    def refresh(self, faults: Faults | None = None) -> tuple[RunReport, list[Call]]:
        """Run until a process comes to the end; only the first one meets the faults. Also its calls."""
        process, faulty = self.process(faults)
        try:
            report = process.run()
        except Crashed:
            report = self.process()[0].run()
        self.in_flight.arrive()
        return report, [call for call, _ in faulty.trace]

    def check(self, report: RunReport) -> None:
        """The refresh was published, whole, and with what an undisturbed one publishes.

        Who died behind the commit has published; the next run then finds nothing to compute.
        """
        home = Home(self.store, self.template.spec.name)
        entries = read_history(home).entries
        assert [entry.kind for entry in entries] == ["publish"] * report.number
        assert entries[-1].release == report.release
        assert report.number == 2 or (report.number == 3 and report.computed == 0 and not report.resumed)
        for entry in entries:
            self.store.whole(entry.release)
        live = self.process()[0].live()
        assert live is not None
        assert live.content.content_digest == self.beginning.stage.digests[REFRESH]


def calm_calls(beginning: Beginning) -> list[Call]:
    """All calls of an undisturbed refresh."""
    with own_folders():
        return Solo(beginning, 0).refresh()[1]


def steps_of(calls: Sequence[Call]) -> list[Step]:
    """Every kind of step, in order of first occurrence."""
    counted = Counter((call.verb, kind(call.key)) for call in calls)
    return [Step(verb, key, count) for (verb, key), count in counted.items()]


def kind(key: str) -> str:
    """The key without names of runs, shards and attempts."""
    parts = key.split("/")
    if len(parts) < 3:
        return key
    if parts[1] == "log":
        return "/".join([*parts[:2], "*"])
    return "/".join([*parts[:2], "*", *parts[3:4], *(["*"] if len(parts) > 4 else [])])
