"""READ FIRST: the whole flow on one page.

    read → fingerprint → plan → work → index → check → publish
    └─── `Pipeline.plan` ───┘   └── `PlannedRun`, in planned.py ──┘

`Pipeline.run` is both. A run is a plan and what follows from it. Every step reads the store and writes to
the store, is safe to repeat, and finds what earlier tries left: so a run that died anywhere is finished by
running it again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial

from embedmill.driving import most_shards, stand_by, stopped, stopped_on_failure
from embedmill.engines import StandsBy
from embedmill.errors import (
    AccountingError,
    ObjectMissing,
    PublishLost,
    ReleaseCorrupt,
    ReleaseMissing,
    RunClosed,
    RunDamaged,
    RunMissing,
)
from embedmill.fleet.engines import check_places
from embedmill.gates import (
    OF_PRODUCTION,
    OVERRIDABLE,
    check_acceptable,
    check_environment,
    check_relevance,
)
from embedmill.planned import OnProgress, PlannedRun, silent
from embedmill.planning import Calibrator, Planner, planned_alike
from embedmill.planning.mended import mended
from embedmill.release import layout, runs
from embedmill.release.log import read_history, whole_history
from embedmill.release.verdicts import verdicts_on
from embedmill.spec.documents import Content, Plan, Terminal
from embedmill.spec.reports import RunReport
from embedmill.types import Progress
from embedmill.use_case import UseCase

PLANS = 4
"""Plans that one `run` makes before it says that others are always faster."""

OVERTAKEN = (PublishLost, RunClosed, ReleaseCorrupt, ReleaseMissing, AccountingError, ObjectMissing)
"""How a run ends when others publish, roll back, cancel or collect meanwhile; and when it is damaged."""

SALVAGED_RUNS = 8
"""Unpublished runs, the newest ones, whose finished vectors a new plan takes over."""


@dataclass(frozen=True, repr=False)
class Pipeline(UseCase):
    """One use case, and what is done with it: a plan is made or found, and carried out."""

    def plan(
        self,
        on_progress: OnProgress = silent,
        *,
        given_up: Mapping[str, str] | None = None,
        engine: StandsBy | None = None,
    ) -> PlannedRun:
        """Plan what there is to compute, or find the open run that planned just that.

        An open run that no longer fits (the catalog, the spec or the model changed) is outlived: the new run
        takes over what it has finished, and whichever is first goes live. One whose base is not live any
        more can never be published, and is closed.

        Args:
            on_progress: Hears of rows as they are read.
            given_up: Runs not to go on with, and why.
            engine: On it loops stand by once vectors are known to be missing; for `stop` to end. If the
                plan fails, it has been stopped.

        Raises:
            StoreUnfit: The store does not do what releases rest on; nothing was written to it.
            SpecError: The labelled queries of the gate on relevance, or what production said of itself, are
                missing or damaged.
            GateFailed: There is something to compute, and what production said that it has cannot.
            LogGap: The log lacks an entry; nothing was written.
        """
        check_relevance(self.spec.gates, self.root, self.package)
        check_places(self.home, self.spec, self.root, self.package)
        self.home.check_fit()
        base = self._opened(whole_history(self.home).live)
        calibrator = Calibrator(self.spec, self.home.world, one_thread=self.seats is not None)
        ahead = partial(stand_by, engine, self.home, calibrator, self.package)

        def on_work() -> None:
            self._check_computable()
            ahead(1)

        prepare = partial(Planner, self.home, self.spec, self.root, self.package, base)
        with stopped_on_failure(engine), prepare(calibrator=calibrator, on_work=on_work) as planner:
            if planner.starts_anew:
                ahead(most_shards(self.spec, planner.reader), all_lanes=True)
            planned = self._resumed_or_anew(planner, given_up or {}, on_progress)
        return replace(planned, engine=engine)

    def _resumed_or_anew(
        self, planner: Planner, given_up: Mapping[str, str], on_progress: OnProgress
    ) -> PlannedRun:
        outlived: dict[str, str] = {}
        salvage: list[Plan] = []
        bad: set[str] = set()
        for run in runs.unpublished_runs(self.home):
            wanted = run.open or len(salvage) < SALVAGED_RUNS
            plan = self._plan_of(run, outlived) if wanted else None
            if plan is None:
                continue
            if run.open:
                why = (
                    given_up.get(run.name)
                    or planner.outdated(plan, planner.base_name)
                    or planner.outgrown(plan)
                    or mended(planner, plan)
                )
                if not why:
                    if not runs.work_state(self.home, plan).complete:
                        self._check_computable()
                    return PlannedRun(self, plan, resumed=True, base=planner.base)
                outlived[run.name] = why
                if plan.base != planner.base_name:
                    runs.abandon(self.home, run.name, why)
            if self._has_bad_vectors(run.name):  # which it may have taken over itself
                bad |= {run.name, *(source.run for source in plan.salvaged)}
            if not planner.had_its_chance(plan):
                salvage.append(plan)
        good = [plan for plan in salvage if plan.run not in bad]
        return self._planned_anew(planner, good, outlived, on_progress)

    def _plan_of(self, run: runs.UnpublishedRun, outlived: dict[str, str]) -> Plan | None:
        """An open run whose plan is damaged is closed: nobody can go on with it, or take anything over."""
        try:
            return runs.read_plan(self.home, run.name)
        except RunDamaged as error:
            if run.open:
                runs.close_damaged(self.home, error)
                outlived[run.name] = f"{error.message}, so it is closed"
            return None

    def _has_bad_vectors(self, run: str) -> bool:
        """Whether a gate that nobody may override found fault with what the run computed."""
        gates = verdicts_on(self.home, run)
        return gates is not None and any(
            not verdict.passed and verdict.gate not in OVERRIDABLE | OF_PRODUCTION
            for verdict in gates.verdicts
        )

    def _planned_anew(
        self, planner: Planner, salvage: list[Plan], outlived: dict[str, str], on_progress: OnProgress
    ) -> PlannedRun:
        rows = 0

        def on_rows(count: int) -> None:
            nonlocal rows
            rows += count
            on_progress(Progress("plan", rows))

        if planner.starts_anew:
            self._check_computable()
        plan, keys = planner.plan(on_rows, salvage[:SALVAGED_RUNS])
        on_progress(Progress("plan", rows, total=rows))
        return PlannedRun(self, plan, resumed=False, outlived=outlived, base=planner.base, keys=keys)

    def _check_computable(self) -> None:
        """Before there is work: a catalog of which nothing is new is planned whatever production has."""
        check_environment(self.spec.serving, self.root, self.package)

    def outdated(self, plan: Plan) -> str:
        """Why `run` would not go on with this open run; empty if it would. Opens no release, reads no row.

        Raises:
            EmbedmillError: The model or the catalog is not to be found: `run` would say so, too.
        """
        planner = Planner(self.home, self.spec, self.root, self.package, None)
        return planner.outdated(plan, read_history(self.home).live)

    def open_run(self, run: str | None = None) -> PlannedRun:
        """The run with this name, or the newest one that is not closed.

        Raises:
            RunMissing: There is none.
            RunDamaged: Its plan is damaged; says what helps.
        """
        self.home.check_fit()
        plan = next(runs.open_plans(self.home), None) if run is None else runs.read_plan(self.home, run)
        if plan is None:
            raise self._missing(run)
        return PlannedRun(self, plan, resumed=True)

    def _missing(self, run: str | None) -> RunMissing:
        if run is None:
            return RunMissing(f"{self.home.url}: no open run", hint="`embedmill run` starts one")
        hint = "`embedmill status` shows those that are open"
        return RunMissing(f"{self.home.url}: no run {run!r}", hint=hint)

    def run(
        self,
        *,
        accept: Collection[str] = (),
        on_progress: OnProgress = silent,
        on_planned: Callable[[PlannedRun], None] = lambda _: None,
    ) -> RunReport:
        """Plan and carry out a run, or finish the open one; plan anew where another was faster.

        Args:
            accept: Names of gates whose failure is accepted, and recorded: churn, empty, quarantine,
                relevance.
            on_progress: Hears how far each stage is.
            on_planned: Hears of each plan before it is carried out.

        Raises:
            SpecError: `accept` has another name; before anything is done.
            GateFailed: A gate stopped the candidate; the live release is untouched.
            Held: A rollback set a hold.
            PublishLost: Others were faster, time and again.
        """
        check_acceptable(accept)
        started, engine = self.home.world.monotonic(), self.standby()
        given_up: dict[str, str] = {}
        for last in (False,) * (PLANS - 1) + (True,):
            entries, planned = len(read_history(self.home).entries), None
            try:
                with stopped(engine):
                    planned = self.plan(on_progress, given_up=given_up, engine=engine)
                    on_planned(planned)
                    report = planned.run(accept=accept, on_progress=on_progress)
                break
            except OVERTAKEN as error:
                if last or not self._has_moved(entries, planned):
                    raise
                done, note = self._meanwhile(entries, planned, started)
                on_progress(Progress("plan", note=note or f"{error.message}; planning again"))
                if done is not None:
                    return done
                if planned is not None:
                    given_up[planned.plan.run] = error.message
        return report.model_copy(update={"seconds": round(self.home.world.monotonic() - started, 3)})

    def _meanwhile(
        self, entries: int, planned: PlannedRun | None, started: float
    ) -> tuple[RunReport | None, str]:
        """What another run published, where it is all that this one would; and a line on it, if it did."""
        history = read_history(self.home)
        new = [entry.release for entry in history.entries[entries:] if entry.kind == "publish"]
        if not new:
            return None, ""
        note = f"another run published release {new[-1]} (number {history.number_of(new[-1])}) meanwhile"
        plan = runs.read_plan(self.home, new[-1])
        if planned is None or plan is None or not planned_alike(plan, planned.plan):
            return None, f"{note}; planning again, on top of it"
        live = history.live
        if live is None or live.release != new[-1] or history.hold is not None:
            return None, f"{note}; planning again"
        content = self.home.read(Content, self.home.release_key(live.release, layout.CONTENT))
        done = PlannedRun(self, plan, resumed=True).report(content, live.number, started)
        return done, f"{note}, of the same catalog: nothing is left to do"

    def _has_moved(self, entries: int, planned: PlannedRun | None) -> bool:
        """Whether the log grew or the run was closed meanwhile: then files may go, and a new plan helps."""
        closed = planned is not None and runs.terminal_of(self.home, planned.plan.run) is not None
        return closed or len(read_history(self.home).entries) != entries

    def cancel(self, run: str | None = None) -> Terminal:
        """Close the run with this name, or the newest open one; its workers stop after their shard.

        What it has finished is taken over by the next run. Returns how the run was closed, which may have
        been before. No plan is read: also a run whose plan is damaged is closed.

        Raises:
            RunMissing: There is none.
        """
        self.home.check_fit()
        if run is None:
            name = next((each.name for each in runs.unpublished_runs(self.home) if each.open), None)
        else:
            name = run if self.home.exists(self.home.run_key(run, layout.PLAN)) else None
        if name is None:
            raise self._missing(run)
        return runs.abandon(self.home, name, "it was cancelled")
