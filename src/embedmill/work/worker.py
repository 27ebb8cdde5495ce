"""The worker loop: claim a shard, embed it, write its vectors, create its commit record; until none is left.

Everything comes from the store and goes there: a loop may start late, stop early, or die anywhere.
"""

from __future__ import annotations

import contextlib
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from embedmill.decoding.process import DecodingLimits
from embedmill.errors import ModelError, ObjectMissing, OutOfMemory, ReleaseCorrupt, RunMissing
from embedmill.model import Encoder, ModelPackage
from embedmill.release.draining import DrainWatch
from embedmill.release.layout import Home
from embedmill.release.numerics import check_numerics
from embedmill.release.runs import check_not_over, read_plan
from embedmill.runtimes import Waiting
from embedmill.spec.documents import CommitRecord, Plan, Profile
from embedmill.store.scratch import scratch_folder
from embedmill.types import Encoded
from embedmill.work.ahead import Opened, load_encoder, opening_of
from embedmill.work.attempts import Attempts, Ready, ShardRows
from embedmill.work.claims import Claims
from embedmill.work.feeder import Feeder, Following
from embedmill.work.heartbeat import Heartbeat
from embedmill.work.leases import HeldLease
from embedmill.work.shrinking import (
    Thrashing,
    major_faults,
    measured_per_lane_s,
    reduced,
    small_batches,
    smaller,
)
from embedmill.work.stages import Ahead, Behind, NextShard, StageTimes
from embedmill.work.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from embedmill.model.feeds import Fed
    from embedmill.work.feeder import Feeds


@dataclass(frozen=True)
class WorkerOptions:
    """How one loop runs. `parent` is the pid whose end ends the loop; None: none.

    `lanes`: batches beside each other, `threads` each; one where another device than `cpu` or the model's
    runtime needs a process each. Without
    `heartbeat_thread` there is no thread at all: leases beat between two batches only, and no stage
    overlaps another. `decoding`: what one image may take. `watch_gpus`: UUIDs of GPUs that are given back
    when somebody else comes; if it must be, the process is ended. `gpu_memory_mib`: the most memory of a
    GPU that it takes; None: as the model says. `halvings`: how often lanes, then batches, are halved first,
    since memory was too short for larger ones. `major_faults`: pages of this process that were waited
    for, by now. `where`: `host`, `gpu` and `image`, for people. `listener` gets each `event/1` as a line.
    """

    worker: str
    device: str = "cpu"
    threads: int = 1
    lanes: int = 1
    parent: int | None = None
    heartbeat_thread: bool = True
    decoding: DecodingLimits | None = None
    watch_gpus: tuple[str, ...] = ()
    gpu_memory_mib: int | None = None
    halvings: int = 0
    major_faults: Callable[[], int] = major_faults
    where: Mapping[str, str] = field(default_factory=dict)
    listener: Callable[[bytes], None] | None = None


@dataclass(frozen=True)
class WorkDone:
    """What one loop did."""

    shards: int
    vectors: int
    rejected: int


def work(home: Home, run: str, options: WorkerOptions, opened: Opened | None = None) -> WorkDone:
    """Work on a run until every shard has a commit record; `opened` may be its model, open already.

    Raises:
        RunMissing: There is no such run.
        Yielded: The device was wanted back, or the parent ended; finished shards are kept.
        RunClosed: Somebody gave the run up; or this loop did, since its frozen rows are damaged.
        ModelError: The model cannot be loaded, or is not the planned one.
        DecodersFailed: No process that decodes images can be started.
        NumericsMoved: What is installed here makes other vectors than the run has.
    """
    home.check_fit()
    plan = read_plan(home, run)
    if plan is None:
        check_not_over(home, run)
        raise RunMissing(f"{home.url}: no run {run!r}", hint="`embedmill status` shows those that are open")
    if not plan.shards:
        return WorkDone(0, 0, 0)
    times = StageTimes(home.world.monotonic)
    try:
        with (
            scratch_folder() as scratch,
            Watchdog(options.watch_gpus) as watchdog,
            _heartbeat(home, run, options, watchdog, times) as heart,
            _encoder(home, plan, options, scratch, watchdog, opened) as encoder,
        ):
            attempts = Attempts(home, plan, encoder, options.worker, scratch, times, heart.check)
            measured, sessions = measured_per_lane_s(plan), encoder.sessions
            clock, faults = home.world.monotonic, options.major_faults
            thrashing = Thrashing(measured, lambda: sessions.opened, clock, faults)
            loop = _Loop(attempts, heart, thrashing, threaded=options.heartbeat_thread)
            loop.shrink(options.halvings)
            return loop.run()
    except (ReleaseCorrupt, ObjectMissing):
        check_not_over(home, run)  # files of an ended run are collected, whoever is at work on it
        raise


def _heartbeat(
    home: Home, run: str, options: WorkerOptions, watchdog: Watchdog, times: StageTimes
) -> Heartbeat:
    return Heartbeat(
        home,
        run,
        options.worker,
        options.parent,
        threaded=options.heartbeat_thread,
        reasons=(watchdog.reason, DrainWatch(home, run)),
        urgent=bool(options.watch_gpus),
        where=options.where,
        listener=options.listener,
        stages=times.told,
    )


def _encoder(
    home: Home, plan: Plan, options: WorkerOptions, scratch: Path, watchdog: Watchdog, opened: Opened | None
) -> Encoder:
    """The planned model, every byte checked, on this loop's device."""
    ahead = opened.encoder_for(plan) if opened is not None else None
    encoder = ahead or _loaded(home, plan, options, scratch, watchdog)
    with contextlib.ExitStack() as unless_checked:
        unless_checked.callback(encoder.close)
        check_numerics(home, plan, encoder)
        unless_checked.pop_all()
    return encoder


def _loaded(home: Home, plan: Plan, options: WorkerOptions, scratch: Path, watchdog: Watchdog) -> Encoder:
    root = home.materialize(plan.model, home.release_key(plan.run), scratch / "package") / "model"
    package = ModelPackage.open(root)
    if package.encoder_digest(epoch=plan.numerics.epoch) != plan.encoder_digest:
        raise ModelError(
            f"{root}: is not the model that run {plan.run} was planned with", hint="start a new run"
        )
    watchdog.know_limits(package.spec.runtimes_for("item"), options.gpu_memory_mib)
    return load_encoder(package, opening_of(plan, str(root)), options)


class _Task(NamedTuple):
    """A shard that is made ready, and its lease."""

    ready: Ready
    lease: HeldLease


class _Result(NamedTuple):
    """A shard's vectors, which wait to be written, and what made them; `began_s`: since when it was busy."""

    rows: ShardRows
    lease: HeldLease
    computed: Encoded
    profile: Profile
    began_s: float


class _Loop:
    """One loop: a shard is written and the next one made ready while the runtime has one in hand."""

    def __init__(self, attempts: Attempts, heart: Heartbeat, thrashing: Thrashing, *, threaded: bool) -> None:
        self._attempts, self._heart, self._threaded = attempts, heart, threaded
        self._thrashing = thrashing
        self._clock, self._times = attempts.home.world.monotonic, attempts.times
        self._claims = Claims(attempts.home, attempts.plan, attempts.worker, heart.check)
        self._next = NextShard(self._clock)
        self._feeder = Feeder(self._times, threaded=threaded)
        self._encoder = attempts.encoder
        self._records: list[CommitRecord] = []
        self._written_s = self._clock()

    def shrink(self, halvings: int) -> None:
        """Begin with lanes that are halved so often, then batches, down to the smallest."""
        for _ in range(halvings):
            self._encoder = reduced(self._encoder, self._encoder.lanes) or self._encoder
        if halvings:
            self._heart.again(small_batches(self._encoder.profile))

    def run(self) -> WorkDone:
        try:
            with self._behind() as write, self._ahead() as tasks, self._feeder, self._heart.giving_up():
                asked_s = self._clock()
                while task := next(tasks, None):
                    write(self._embedded(task, max(asked_s, task.ready.began_s)))
                    del task  # its images are as large as a shard
                    asked_s = self._clock()
        finally:
            self._heart.give_up(all_of_them=True)
        vectors = sum((record.vectors.rows or 0) if record.vectors else 0 for record in self._records)
        rejected = sum((record.rejected.rows or 0) if record.rejected else 0 for record in self._records)
        return WorkDone(len(self._records), vectors, rejected)

    def _tasks(self) -> Iterator[_Task]:
        """Shards of this loop, ready; the next one is claimed when the one in hand is about to be done."""
        for shard, lease in self._claims:
            self._heart.hold(lease)
            began_s = self._clock()
            ready = self._attempts.ready(shard)
            self._next.takes(self._clock() - began_s)
            self._feeder.follow(partial(self._following, ready))
            yield _Task(ready, lease)
            self._next.wait()

    def _feeds(self, ready: Ready) -> Iterator[Fed]:
        """The arrays of a shard's batches, for the encoder that is had by then."""
        wanted = self._attempts.wanted(self._encoder, ready)
        return self._hurrying(self._encoder.feeds(wanted), len(wanted.batches))

    def _following(self, ready: Ready) -> Following:
        """A shard whose first two batches are for lanes that the one in hand leaves idle, if all are open."""
        encoder = self._encoder
        several = 1 < encoder.lanes == encoder.sessions.opened and not isinstance(encoder.runtime, Waiting)
        return Following(self._feeds(ready), encoder.in_lane_early if several else None)

    def _hurrying(self, feeds: Iterator[Fed], left: int) -> Iterator[Fed]:
        """The same arrays, of so many batches; before the last ones are made, the next shard is wanted."""
        for fed in feeds:
            left -= 1
            yield fed
            if left <= 1:
                self._next.hurry()

    def _embedded(self, task: _Task, began_s: float) -> _Result:
        with self._claims.patience.working(), self._next.while_at_work(task.ready.wanted.count) as tell:

            def on_batch(rows: int) -> None:
                tell(rows)
                self._heart.advance(rows)
                self._thrashing.check(rows)

            if len(task.ready.wanted.batches) <= 1:
                self._next.hurry()  # its arrays may have been made before it was in hand
            computed = self._computed(task, on_batch)
            self._heart.leave(task.lease)
        return _Result(task.ready.rows, task.lease, computed, self._encoder.profile, began_s)

    def _computed(self, task: _Task, on_batch: Callable[[int], None]) -> Encoded:
        """An attempt at a shard; another one, `smaller`, for as long as memory is too short.

        The loop keeps to the smaller ones: what its machine has too little of now it may lack again.
        """
        count = len(task.ready.rows.fingerprints)

        def feeding(_: Iterator[Fed]) -> AbstractContextManager[Feeds]:
            # Not those that it would make itself: what was begun early has the same, of the same encoder,
            # since all that was begun is forgotten before there is another one.
            return self._feeder.feeding(self._feeds(task.ready))

        while True:
            self._heart.take(task.lease, count)
            self._heart.advance(count - task.ready.wanted.count)
            several = self._encoder.sessions.opened > 1
            self._thrashing.begin(watched=several or self._encoder.smaller() is not None)
            try:
                return self._attempts.embed(self._encoder, task.ready, on_batch, feeding)
            except (OutOfMemory, MemoryError) as error:
                self._feeder.forget()
                self._encoder = smaller(self._encoder, error)
            self._heart.again(small_batches(self._encoder.profile))

    def _write(self, result: _Result) -> None:
        """Seconds of a record begin after those of the last one, so that they are never counted twice."""
        began_s = max(result.began_s, self._written_s)
        record = self._attempts.write(result.rows, result.computed, result.profile, began_s)
        self._written_s = self._clock()
        self._heart.drop(result.lease)
        self._claims.mine.discard(result.rows.shard.name)
        if record is not None:
            self._records.append(record)

    def _ahead(self) -> AbstractContextManager[Iterator[_Task]]:
        if not self._threaded:
            return nullcontext(self._tasks())
        ahead = Ahead(self._tasks(), depth=1, name="ahead", on_stop=self._next.give_up)
        self._times.watch("runtime", ahead.depth)
        return ahead

    def _behind(self) -> AbstractContextManager[Callable[[_Result], None]]:
        if not self._threaded:
            return nullcontext(self._write)
        behind = Behind(self._write, name="behind", on_wait=self._heart.look, on_error=self._heart.fail)
        self._times.watch("write", behind.depth)
        return behind
