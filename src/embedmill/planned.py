"""A plan in the store, and the stages that carry it out: work → index → check → publish.

Each reads the store and writes to the store alone, so that each can be a command of its own, in a process of
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from embedmill.driving import drive, stopped
from embedmill.engines import Engine
from embedmill.errors import GateFailed
from embedmill.gates import GATES, check_acceptable, gate_failure, run_gates
from embedmill.model.batches import Budgets
from embedmill.release import runs
from embedmill.release.assemble import assemble, read_candidate
from embedmill.release.folders import candidate_folder
from embedmill.release.item_keys import KnownKeys
from embedmill.release.layout import Home
from embedmill.release.publish import publish
from embedmill.release.reader import Release, open_release
from embedmill.release.shares import worker_shares
from embedmill.release.verdicts import publishable_verdicts, record_verdicts, verdicts_on
from embedmill.seats import SharedPlaces, Standing
from embedmill.spec.documents import Content, Gates, LogEntry, Plan
from embedmill.spec.reports import RunReport
from embedmill.types import Progress
from embedmill.use_case import UseCase
from embedmill.words import counted

OnProgress = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class PlannedRun:
    """A plan in the store, and the stages that carry it out.

    `outlived` has the open runs that were not gone on with, and why. `engine` works on it; None: a new one.
    `base` is the plan's, if it is open. `keys` is what the plan left of its items, if it was made just now.
    """

    pipeline: UseCase
    plan: Plan
    resumed: bool
    outlived: Mapping[str, str] = field(default_factory=dict)
    engine: Engine | None = None
    base: Release | None = field(default=None, compare=False)
    keys: KnownKeys | None = field(default=None, compare=False, repr=False)

    def __repr__(self) -> str:
        plan = self.plan
        what = f"{counted(plan.items.total, 'item')}, {counted(plan.compute, 'vector')} to compute"
        return f"<PlannedRun {plan.run} of {plan.pipeline.name!r}: {what}{', resumed' * self.resumed}>"

    @property
    def home(self) -> Home:
        """The pipeline's folder in its store."""
        return self.pipeline.home

    @property
    def url(self) -> str:
        """What `embedmill worker --run` takes."""
        return f"{self.home.url}/runs/{self.plan.run}"

    def run(self, *, accept: Collection[str] = (), on_progress: OnProgress = silent) -> RunReport:
        """All stages that are left: work, index, check, publish."""
        check_acceptable(accept)
        started = self.home.world.monotonic()
        self.work(on_progress)
        content = self.index(on_progress)
        gates = self.check(accept)
        if not gates.passed:
            raise gate_failure(gates)
        return self.report(content, self.publish(gates).number, started)

    def report(self, content: Content, number: int, started: float) -> RunReport:
        """What `run` returns of its release; `started`: on the monotonic clock of the store's world."""
        return RunReport(
            release=content.release,
            number=number,
            url=f"{self.home.url}/releases/{content.release}",
            total=content.counts.total,
            **{name: getattr(content, name) for name in ("computed", "embedded", "reused", "empty", "kept")},
            **{name: getattr(content, name) for name in ("quarantined", "compacted")},
            resumed=self.resumed,
            seconds=round(self.home.world.monotonic() - started, 3),
            epoch=content.numerics.epoch,
            numerics=content.numerics.why,
            shares=worker_shares(self.home, self.plan),
        )

    def work(self, on_progress: OnProgress = silent) -> None:
        """Start worker loops on the engine and wait until every shard has a commit record."""
        pipeline, plan = self.pipeline, self.plan
        engine = self.engine or pipeline.engine()
        places = pipeline.places(plan, engine)
        if pipeline.seats is not None:
            pipeline.seats.tell(Standing())  # that the plan is made, also where nothing is to compute
            places = SharedPlaces(places, pipeline.seats, self.home.world)
        closing = runs.closed_if_damaged(self.home, plan.run)
        with closing, stopped(self.engine):  # loops may stand by that nobody needed
            budgets = Budgets.of(pipeline.package.inputs("item"))
            drive(self.home, plan, pipeline.spec.work, engine, self.url, on_progress, places, budgets)

    def index(self, on_progress: OnProgress = silent) -> Content:
        """Join items and vectors into a candidate, compact and index its segments."""

        def on_step(step: str) -> None:
            on_progress(Progress(step, unit="steps"))

        with runs.closed_if_damaged(self.home, self.plan.run):
            return assemble(self.home, self.plan, self._base(), on_step, self.keys)

    def check(self, accept: Collection[str] = ()) -> Gates:
        """Run the gates on the candidate, by today's limits, and write gates.json and the report of the run.

        Raises:
            SpecError: `accept` names no gate that may be accepted.
            RunError: There is no candidate yet.
            ReleaseCorrupt: A file of the candidate is gone or damaged; the run is closed.
        """
        check_acceptable(accept)
        content = read_candidate(self.home, self.plan.run)
        root, spec = self.pipeline.root, self.pipeline.spec
        limits = {"gates": spec.gates.below(root), "serving": spec.serving.below(root)}
        judged = content.model_copy(update={"pipeline": content.pipeline.model_copy(update=limits)})
        base = self._base()
        with runs.closed_if_corrupt(self.home, self.plan.run):
            candidate = Release(candidate_folder(self.home, content), judged)
            gates = run_gates(GATES, candidate, base, accept, self.home.now())
            return record_verdicts(self.home, content, gates)

    def publish(self, gates: Gates | None = None) -> LogEntry:
        """Seal the candidate and make it live, by these verdicts, or those of the last check if None.

        Raises:
            GateFailed: It was not checked by all of today's gates, or one stands against it.
        """
        content = read_candidate(self.home, self.plan.run)
        gates = gates or publishable_verdicts(self.home, self.plan.run, GATES)
        if gates is None:
            runs.check_not_over(self.home, self.plan.run)
            by = " by all of today's gates" if verdicts_on(self.home, self.plan.run) else ""
            raise GateFailed(
                f"run {self.plan.run}: the candidate is not checked yet{by}",
                hint="`embedmill check` does it",
            )
        if not gates.passed:
            raise gate_failure(gates)
        return publish(self.home, self.plan, content, gates)

    def _base(self) -> Release | None:
        return self.base or (open_release(self.home, self.plan.base.release) if self.plan.base else None)
