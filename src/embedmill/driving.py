"""Drives worker loops to the end of a run: starts them, watches the store, replaces those that are lost."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from embedmill.engines import LocalPlaces
from embedmill.errors import StoreFull, WorkerFailed, Yielded
from embedmill.model.batches import OF_TEXTS, Budgets, most_halvings
from embedmill.model.lanes import lanes_of
from embedmill.release.draining import DRAINED, call_back, is_drained, send_away, undrain
from embedmill.release.publish import BaseWatch
from embedmill.release.runs import Rejections, Watch, WorkState, check_open
from embedmill.seats import Shared
from embedmill.spec.pipeline import BATCH_TOKENS
from embedmill.store.pace import LOOK_S, POLITE_LOOK_S
from embedmill.types import Look, Opening, Placement, Progress, WorkerState

if TYPE_CHECKING:
    from embedmill.catalog import CatalogReader
    from embedmill.engines import Engine, Places, StandsBy
    from embedmill.model import ModelPackage
    from embedmill.planning import Calibrator
    from embedmill.release.layout import Home
    from embedmill.spec import PipelineSpec, WorkSpec
    from embedmill.spec.documents import Plan

GOES_ON = "`embedmill resume` goes on"
MORE_MEMORY = "give it more memory, or fewer batches at a time (`work.workers: 1`); "
HOPELESS = frozenset({1, 2, 42})
"""Exit codes that another try would not change: the worker said what is wrong; 42: the place is unfit."""
CANNOT_START = frozenset({125, 126, 127})
"""On another server: its container tool, or what starts it, says that it cannot; `podman run` has these."""
YIELDED = 75
NO_SPACE = "no space left"
FREE_SOME = f"free some space; then {GOES_ON}"
EXPIRED = 77
"""Its credentials have ended; a new start gets new ones."""
LOST = 255
"""Its host gives no answer: whether another try helps is found out by looking for places again."""
LEAST_ROW_BYTES, MANY = 8, 1 << 20
"""Of a catalog's files for a row: compressed Parquet of short texts has several times as many."""
AWAY = frozenset({YIELDED, LOST})
"""How loops end whose places have to be found idle anew."""


def drive(
    home: Home,
    plan: Plan,
    spec: WorkSpec,
    engine: Engine,
    run_url: str,
    on_progress: Callable[[Progress], None],
    places: Places | None = None,
    budgets: Budgets = OF_TEXTS,
) -> None:
    """Place loops on an engine until every shard is committed; without `places`, here, of one lane each.

    `budgets`: which of them bound the model's batches.

    Raises:
        RunClosed: Somebody gave the run up.
        PublishLost: Another release went live since the plan was made: this one can never be published.
        WorkerFailed: Loops cannot work, or were lost too often without getting anything done.
        Yielded: All loops gave their devices back, and nobody has others; or there were none.
    """
    watch, rejections, base = Watch(home, plan), Rejections(home, plan), BaseWatch(home, plan)

    def look() -> WorkState:
        state = watch.look()
        failed = rejections.count(state.committed)
        on_progress(Progress("embed", state.rows_done, state.rows, "vectors", failed, busiest=state.busiest))
        if not state.complete:
            base.look()
        return state

    if look().complete:
        return
    undrain(home, plan.run)
    places = places or LocalPlaces(spec.workers, plan.threads)
    try:
        _Driving(home, plan, spec, engine, run_url, places, look, on_progress, budgets).go()
    finally:
        engine.stop()
        if isinstance(places, Shared):
            places.settle((), 0)


@contextlib.contextmanager
def stopped(engine: Engine | None) -> Iterator[None]:
    """Loops that stand by on this engine, if there is one, end with the block."""
    try:
        yield
    finally:
        if engine is not None:
            engine.stop()


def most_shards(spec: PipelineSpec, catalog: CatalogReader) -> int:
    """How many there can be, before any row is read."""
    size_bytes = sum(file.size_bytes for file in catalog.files)  # 0 of most databases
    return size_bytes // (LEAST_ROW_BYTES * spec.work.shard_rows) + 1 if size_bytes else MANY


@contextlib.contextmanager
def stopped_on_failure(engine: Engine | None) -> Iterator[None]:
    """Loops that stand by on this engine, if there is one, end with the block if it fails."""
    try:
        yield
    except BaseException:
        if engine is not None:
            engine.stop()
        raise


def stand_by(
    engine: StandsBy | None,
    home: Home,
    calibrator: Calibrator,
    package: ModelPackage,
    most: int,
    *,
    all_lanes: bool = False,
) -> None:
    """Let loops open the model while a catalog is planned: as many as use all cores, and `most` at most.

    Each has the threads that this machine remembers as its fastest: the run's loops will have them.
    `all_lanes`: they open the model for each lane, and not once more only when a batch has need of it.
    Without an engine that can do this, they start with their run.
    """
    if engine is None:
        return
    spec = calibrator.spec
    opening = Opening(
        model=str(package.root.absolute()),
        batch_tokens=spec.work.batch_tokens or BATCH_TOKENS,
        batch_images=spec.work.batch_images,
        thumbnails=spec.catalog.thumbnails,
        all_lanes=all_lanes,
    )
    threads, lanes = calibrator.remembered_threads(package), lanes_of(package)
    places = LocalPlaces(spec.work.workers, threads, lanes=lanes)
    engine.stand_by(f"{home.url}/runs", places.look(most, ()).free, opening)


@dataclass
class _Driving:
    """One run's loops: `known` has every place that was used, `hopeless` the loops that cannot work there."""

    home: Home
    plan: Plan
    spec: WorkSpec
    engine: Engine
    run_url: str
    places: Places
    look: Callable[[], WorkState]
    on_progress: Callable[[Progress], None]
    budgets: Budgets
    known: dict[str, Placement] = field(default_factory=dict)
    hopeless: dict[str, WorkerState] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    passed_over: dict[str, str] = field(default_factory=dict)
    sent_away: set[str] = field(default_factory=set)
    waits: bool = False
    """Whether it was said that no place is free."""

    def go(self) -> None:
        search = _Search(self.places, len(self.plan.shards), self.home.world.monotonic)
        if self.places.again_s is not None:
            self._say("looking for places")
        free = self._take(first := self.places.look(len(self.plan.shards), ()))
        if self.places.again_s is not None and not (free or self.places.waits):
            raise self._given_back(())
        self._tell_that_it_waits(first, free)
        committed, losses = -1, 0
        for states in self._states_worth_a_look():
            state = self.look()
            if state.complete:
                return
            if state.committed > committed:
                committed, losses = state.committed, 0
            if any(known.exit_code == YIELDED for known in states):
                check_open(self.home, self.plan.run)
            lost = self._lost(states)
            losses += self._charged(lost)
            if losses > self.spec.attempts:
                raise self._worn_out(losses, lost[-1])
            self._start([self.known[gone.worker] for gone in lost if gone.worker in self.known])
            running = [known.worker for known in states if known.exit_code is None]
            works = any(known.exit_code is None and not known.waits for known in states)
            self._settle(running, state.shards - state.committed)
            self._look_again(search, states, running, stuck=not (works or lost))

    def _take(self, found: Look) -> list[Placement]:
        """Start loops at the places that a look found, and return these; say once what was passed over."""
        for name, why in found.passed_over.items():
            if self.passed_over.get(name) != why:
                self._say(f"{name}: {why}")
        self.passed_over = dict(found.passed_over)
        free = [place for place in found.free if place.worker not in self.hopeless]
        self.known.update({place.worker: place for place in free})
        self._start(free)
        return free

    def _tell_that_it_waits(self, found: Look, free: Sequence[Placement]) -> None:
        """Once for as long as it does: a run that computes nothing looks like one that hangs."""
        if self.places.again_s is None or free or not found.passed_over or self.waits:
            return
        self.waits = True
        again_s = f"{self.places.again_s:g} s"
        self._say(f"no place is free: the run waits, and looks again every {again_s}; Ctrl-C ends it")

    def _settle(self, running: Sequence[str], left: int) -> None:
        """Where others share the places: tell how it stands; send loops away that have no place any more."""
        if isinstance(self.places, Shared):
            for worker in self.places.settle(running, left):
                if worker not in self.sent_away:
                    send_away(self.home, self.plan.run, worker)
                    self.sent_away.add(worker)

    def _start(self, places: Sequence[Placement]) -> None:
        names = {place.worker for place in places}
        self.waits = self.waits and not names
        self.told -= names
        for worker in names & self.sent_away:
            call_back(self.home, self.plan.run, worker)
            self.sent_away.discard(worker)
        self.engine.start(self.run_url, places)

    def _look_again(
        self, search: _Search, states: Sequence[WorkerState], running: Sequence[str], *, stuck: bool
    ) -> None:
        """Search for places where it is time, and at once where no loop runs any more.

        Raises:
            Yielded: There are none, and nobody is to wait for any.
            WorkerFailed: No loop can work anywhere.
        """
        if stuck and self.known and len(self.hopeless) == len(self.known):
            raise _cannot_work(next(iter(self.hopeless.values())))
        if stuck and is_drained(self.home, self.plan.run):
            raise Yielded(f"run {self.plan.run}: all workers stopped: {DRAINED}", hint=GOES_ON)
        if self.places.again_s is None:
            if stuck:
                raise self._given_back(states)
            return
        search.was_urgent = search.was_urgent and stuck
        found = search.found()
        if found is not None and not is_drained(self.home, self.plan.run):
            free = self._take(found)
            if stuck and search.was_urgent and not free and not self.places.waits:
                raise self._given_back(states)
            if not running:  # else loops wait for their nodes, as those of Ray do
                self._tell_that_it_waits(found, free)
        elif stuck and not search.was_urgent:
            search.begin(running, urgent=True)
        elif search.is_due(self.places.again_s):
            search.begin(running, urgent=stuck)

    def _states_worth_a_look(self) -> Iterator[list[WorkerState]]:
        """What the engine says, each time that the store should be looked at afterwards.

        So an ended loop's last commit is seen. A remote store is looked at every 2 s, and when a loop ends:
        the engine is asked as often as ever, so that nothing takes longer.
        """
        world, remote = self.home.world, self.home.store.remote
        before: list[WorkerState] = []
        looked_s = world.monotonic()
        while True:
            states, now_s = self.engine.states(), world.monotonic()
            if not remote or states != before or now_s - looked_s >= POLITE_LOOK_S:
                before, looked_s = states, now_s
                yield states
            world.sleep(LOOK_S)

    def _lost(self, states: Sequence[WorkerState]) -> list[WorkerState]:
        """Loops that ended although work is left, and that another try may help.

        Raises:
            WorkerFailed: A loop of this machine said that it cannot work; elsewhere others may.
        """
        ended = [state for state in states if state.exit_code is not None]
        for state in ended:
            if state.worker not in self.told and self._is_elsewhere(state):
                self.told.add(state.worker)
                self._say(f"{state.worker} {_ending(state)}")
            if state.exit_code in HOPELESS and not self._is_elsewhere(state):
                raise _cannot_work(state)
            if state.exit_code in HOPELESS | CANNOT_START and self._is_elsewhere(state):
                self.hopeless[state.worker] = state
        return [state for state in ended if state.exit_code not in AWAY and state.worker not in self.hopeless]

    def _charged(self, lost: Sequence[WorkerState]) -> int:
        """Losses that count: none of loops that become smaller; credentials that ended for all are one."""
        counted = [state for state in lost if not self._becomes_smaller(state)]
        expired = sum(state.exit_code == EXPIRED for state in counted)
        return len(counted) - expired + min(expired, 1)

    def _becomes_smaller(self, state: WorkerState) -> bool:
        """Whether the kernel ended it for lack of memory, of which its next start takes less."""
        lanes = self.known[state.worker].lanes if state.worker in self.known else 1
        most = most_halvings(lanes, self.plan.batch_tokens, self.spec.batch_images, self.budgets)
        return 0 < state.halvings <= most

    def _is_elsewhere(self, state: WorkerState) -> bool:
        place = self.known.get(state.worker)
        return place is not None and place.host is not None

    def _say(self, note: str) -> None:
        self.on_progress(Progress("fleet", note=note))

    def _worn_out(self, losses: int, last: WorkerState) -> WorkerFailed:
        return WorkerFailed(
            f"run {self.plan.run}: {losses} workers in a row were lost without finishing a shard; "
            f"the last one {_ending(last)}",
            hint=f"{MORE_MEMORY if last.halvings else ''}finished shards are kept; {GOES_ON}",
        )

    def _given_back(self, states: Sequence[WorkerState]) -> Yielded | StoreFull:
        if self.places.again_s is None:
            full = next((state.said for state in states if NO_SPACE in state.said), "")
            if full:  # the last line of a loop is all that an engine has of it
                return StoreFull(f"run {self.plan.run}: {full.partition(' (free ')[0]}", hint=FREE_SOME)
            return Yielded(f"run {self.plan.run}: all workers stopped; {_ending(states[-1])}", hint=GOES_ON)
        busy = "; ".join(f"{place}: {why}" for place, why in self.passed_over.items())
        return Yielded(
            f"run {self.plan.run}: no place is free: {busy}", hint=f"{GOES_ON}; with --wait it waits"
        )


class _Search:
    """A look for places in the background: it takes as long as a GPU must have been idle."""

    def __init__(self, places: Places, most: int, clock: Callable[[], float]) -> None:
        """Search for nothing yet; `clock` tells seconds."""
        self._places, self._most, self._clock = places, most, clock
        self._results: queue.SimpleQueue[Look | BaseException] = queue.SimpleQueue()
        self._pending = False
        self._ended_s = clock()
        self.was_urgent = False
        """Whether no loop ran when the last search began."""

    def is_due(self, every_s: float) -> bool:
        """Whether the last one ended so long ago."""
        return not self._pending and self._clock() - self._ended_s >= every_s

    def begin(self, held: Collection[str], *, urgent: bool) -> None:
        """Search beside these loops, unless a search goes on."""
        if self._pending:
            return
        self._pending, self.was_urgent = True, urgent
        threading.Thread(target=self._run, args=(tuple(held),), name="places", daemon=True).start()

    def found(self) -> Look | None:
        """What the search found, once; None while there is nothing new.

        Raises:
            EmbedmillError: What ended the search.
        """
        try:
            result = self._results.get_nowait()
        except queue.Empty:
            return None
        self._pending, self._ended_s = False, self._clock()
        if isinstance(result, BaseException):
            raise result
        return result

    def _run(self, held: tuple[str, ...]) -> None:
        try:
            self._results.put(self._places.look(self._most, held))
        except BaseException as error:  # noqa: BLE001 - it is raised where the driver is
            self._results.put(error)


def _cannot_work(state: WorkerState) -> WorkerFailed:
    return WorkerFailed(f"worker {state.worker}: {state.said or f'ended with exit code {state.exit_code}'}")


def _ending(state: WorkerState) -> str:
    code = state.exit_code or 0
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    how += " for lack of memory" if state.halvings else ""
    return f"{how}: {state.said}" if state.said else how
