"""One simulated history: agents of every kind on one pipeline, crashes and faults, then calm, then the check.

two runners   run the pipeline on catalogs that change under them, with the real planner and publisher
a helper      joins open runs with a real worker loop
an operator   rolls back, lifts holds, pins, unpins, cancels
a collector   retires, abandons without any patience, and deletes
a reader      opens what is live and looks at all of it, as a server does
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from tests.simulation.promises import Broken, WatchedStore, reachable, sizes
from tests.simulation.scheduler import Scheduler
from tests.simulation.world import BEGIN, CALM, STORMY, new_process

from embedmill import Pipeline
from embedmill.errors import CatalogError, EmbedmillError, Held, PublishError, ReleaseError, RunError
from embedmill.release.admin import pin, rollback, unhold, unpin
from embedmill.release.collect import Policy, collect
from embedmill.release.layout import Home
from embedmill.release.log import read_history
from embedmill.release.reader import open_release
from embedmill.release.runs import open_plans
from embedmill.spec.reports import RunReport
from embedmill.store.faults import Fault
from embedmill.store.faulty import Crashed, InFlight
from embedmill.types import Placement, WorkerState
from embedmill.work import WorkerOptions, work
from embedmill.world import World

HELPER = WorkerOptions("helper", heartbeat_thread=False)
CENTURY = timedelta(days=36_500)
LIVES = 30
"""Crashes after which an agent is not started again."""

TRY_AGAIN = 75
T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """What all histories share: a pipeline's folder, catalogs, and what a calm run makes of each."""

    folder: Path
    catalogs: Sequence[Path]
    digests: Sequence[str]

    def feed(self, number: int) -> None:
        """Replace the catalog, as a feed does."""
        new = self.folder / "items.new"
        shutil.copyfile(self.catalogs[number], new)
        new.rename(self.folder / "items.parquet")


class InlineEngine:
    """Runs one worker loop, here and now: the simulation has one thread at a time."""

    def __init__(self, home: Home) -> None:
        """Nothing runs yet."""
        self._home = home
        self._states: dict[str, WorkerState] = {}

    def start(self, run_url: str, placements: Sequence[Placement]) -> None:
        """Work until there is nothing left to do."""
        for place in placements[:1]:
            code, said = 0, ""
            try:
                work(
                    self._home, run_url.rsplit("/", 1)[1], WorkerOptions(place.worker, heartbeat_thread=False)
                )
            except EmbedmillError as error:
                code, said = error.exit_code, str(error)
            self._states[place.worker] = WorkerState(place.worker, code, said)

    def states(self) -> list[WorkerState]:
        """How they ended."""
        return list(self._states.values())

    def stop(self) -> None:
        """They have."""


@dataclass(frozen=True)
class Process(Pipeline):
    """A pipeline as one simulated process sees it."""

    its_home: Home

    @cached_property
    def home(self) -> Home:
        return self.its_home

    def engine(self) -> InlineEngine:
        return InlineEngine(self.its_home)


@dataclass
class Simulation:
    """A seed, and what becomes of it."""

    stage: Stage
    seed: int
    rates: Mapping[Fault, float] = field(default_factory=lambda: STORMY)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.seed)
        self.random = random.Random(f"deeds {self.seed}")
        self.template = Pipeline.from_file(self.stage.folder / "pipeline.yaml")
        self.store = WatchedStore(self.template.spec.name)
        self.in_flight = InFlight()
        self.reports: list[RunReport] = []

    def run(self) -> list[str]:
        """Run it all; returns the trace.

        Raises:
            Broken: A promise was.
        """
        with own_folders():
            self.stage.feed(0)
            self._spawn()
            self.scheduler.run()
            self.in_flight.arrive()
            self._settle()
        return self.scheduler.trace

    def process(self, name: str, rates: Mapping[Fault, float] | None = None) -> Process:
        store, world = new_process(
            self.scheduler, self.store, self.in_flight, self.rates if rates is None else rates, name
        )
        home = Home(store, self.template.spec.name, world)
        return Process(self.template.spec, self.template.root, home)

    def _spawn(self) -> None:
        deeds: dict[str, Callable[[Process], None]] = {
            "runner-1": self._run_some,
            "runner-2": self._run_some,
            "helper": self._help,
            "operator": self._operate,
            "collector": self._collect,
            "reader": self._read,
        }
        for name, deed in deeds.items():
            self.scheduler.spawn(name, partial(self._live, name, deed))

    def _live(self, name: str, deed: Callable[[Process], None]) -> None:
        """One process after the other, until the deed is done."""
        for life in range(LIVES):
            try:
                return deed(self.process(f"{name}.{life}"))
            except Crashed as crash:
                self.scheduler.note(f"crashed {crash}")
                self.scheduler.sleep(self.random.expovariate(0.2))
        return None

    def _run_some(self, process: Process) -> None:
        for _ in range(self.random.randint(1, 2)):
            process.home.world.sleep(self.random.expovariate(0.1))
            if self.random.random() < 0.6:
                self.stage.feed(self.random.randrange(len(self.stage.catalogs)))
            self._run_one(process)

    def _run_one(self, process: Process) -> None:
        """As cron does: what says "try again" is tried again; what a person must answer is left."""
        for _ in range(5):
            try:
                self.reports.append(process.run())
                return
            except Held:
                return
            except EmbedmillError as error:
                self.scheduler.note(f"{error.code}: {error.message}")
                if error.exit_code != TRY_AGAIN and not isinstance(error, CatalogError):  # the feed is at it
                    raise Broken(f"a run needs a person: {error.code}: {error}") from error
                process.home.world.sleep(self.random.expovariate(0.1))

    def _help(self, process: Process) -> None:
        for _ in range(3):
            process.home.world.sleep(self.random.expovariate(0.1))
            for plan in self._tolerating(lambda: list(open_plans(process.home))) or []:
                self._tolerating(partial(work, process.home, plan.run, HELPER))

    def _operate(self, process: Process) -> None:
        home = process.home
        for _ in range(self.random.randint(1, 4)):
            home.world.sleep(self.random.expovariate(0.05))
            published = [each.release for each in read_history(Home(self.store, home.pipeline)).published()]
            name = self.random.choice(published) if published else "none"
            deeds: list[Callable[[], object]] = [
                *(partial(deed, home, name) for deed in (rollback, pin, unpin)),
                partial(unhold, home),
                process.cancel,
            ]
            self._tolerating(self.random.choice(deeds), PublishError, ReleaseError, RunError)

    def _collect(self, process: Process) -> None:
        for _ in range(self.random.randint(1, 3)):
            process.home.world.sleep(self.random.expovariate(0.05))
            keep, patience_s = self.random.randint(1, 2), self.random.choice([0.0, 0.0, 1e12])
            policy = Policy(keep, abandon_after_s=patience_s, unfinished_after_s=0.0)
            self._tolerating(partial(collect, process.home, policy))

    def _read(self, process: Process) -> None:
        """Whoever opens what is live sees a whole release, unless it is retired meanwhile."""
        for _ in range(3):
            process.home.world.sleep(self.random.expovariate(0.1))
            history = self._tolerating(partial(read_history, process.home))
            live = history.live if history else None
            if live is None:
                continue
            try:
                release = open_release(process.home, live.release)
                if release.content.content_digest not in self.stage.digests:
                    raise Broken(f"release {live.release} has contents that no catalog had")
            except EmbedmillError as error:
                published = read_history(Home(self.store, process.home.pipeline)).published()
                if live.release in {each.release for each in published} and error.exit_code != TRY_AGAIN:
                    raise Broken(f"{live.release} may be served, but cannot be opened: {error}") from error

    def _tolerating(self, deed: Callable[[], T], *kinds: type[EmbedmillError]) -> T | None:
        """The deed, where the store's troubles, and errors of these kinds, are no surprise."""
        try:
            return deed()
        except EmbedmillError as error:
            self.scheduler.note(f"{error.code}: {error.message}")
            if error.exit_code != TRY_AGAIN and not isinstance(error, kinds):
                raise Broken(f"{error.code}: {error}") from error
            return None

    def _settle(self) -> None:
        """In calm: a last run publishes the catalog that there is, and two collections leave nothing."""
        last = self.process("last", CALM)
        unhold(last.home)
        number = self.random.randrange(len(self.stage.catalogs))
        self.stage.feed(number)
        report = last.run()
        live = last.live()
        if live is None or live.name != report.release:
            raise Broken("what the last run published is not live")
        if live.content.content_digest != self.stage.digests[number]:
            raise Broken("the last release is not what an undisturbed run publishes")
        for _ in range(2):  # years later, so that whatever a wrong clock has dated is old as well
            collect(last.home, Policy(keep=1, unfinished_after_s=0.0), clock=lambda: BEGIN + CENTURY)
        self._check_log(last.home)
        self._check_orphans(last.home)

    def _check_log(self, home: Home) -> None:
        entries = read_history(home).entries
        for report in self.reports:
            if entries[report.number - 1].release != report.release:
                raise Broken(f"{report.release} was reported as number {report.number}, which it is not")
        for release in read_history(home).published():
            self.store.whole(release.release)

    def _check_orphans(self, home: Home) -> None:
        found = sizes(self.store, home.pipeline)
        named = reachable(self.store, home, read_history(home))
        orphans = {key: size for key, size in found.items() if key not in named}
        if sum(orphans.values()) > 0.01 * sum(found.values()):
            raise Broken(f"orphans are left after two collections: {sorted(orphans)[:5]}")


@contextmanager
def own_folders() -> Iterator[None]:
    """Scratch and cache in memory, and gone afterwards."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        before = tempfile.tempdir, os.environ.get("EMBEDMILL_CACHE")
        tempfile.tempdir, os.environ["EMBEDMILL_CACHE"] = folder, f"{folder}/cache"
        try:
            yield
        finally:
            tempfile.tempdir = before[0]
            if before[1] is None:
                del os.environ["EMBEDMILL_CACHE"]
            else:
                os.environ["EMBEDMILL_CACHE"] = before[1]


def calm_digest(pipeline: Pipeline, store: WatchedStore, world: World) -> str:
    """The content digest of an undisturbed run."""
    process = Process(pipeline.spec, pipeline.root, Home(store, pipeline.spec.name, world))
    process.run()
    live = process.live()
    if live is None:
        raise Broken("a calm run published nothing")
    return live.content.content_digest
