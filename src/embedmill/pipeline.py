"""READ FIRST: the whole flow on one page.

    read → fingerprint → plan → work → index → check → publish

A run is a plan and what follows from it. Every step reads the store and writes to the store, is safe to
repeat, and finds what earlier tries left: so a run that died anywhere is finished by running it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from embedmill.driving import drive
from embedmill.errors import GateFailed, ObjectMissing, RunError, RunMissing, SpecError
from embedmill.gates import GATES, OVERRIDABLE, run_gates
from embedmill.model import ModelPackage
from embedmill.planning import Planner
from embedmill.release import layout
from embedmill.release.assemble import assemble
from embedmill.release.folders import candidate_folder
from embedmill.release.layout import Home
from embedmill.release.log import read_history
from embedmill.release.publish import abandon, publish
from embedmill.release.reader import Release, open_release
from embedmill.release.report import render_report
from embedmill.release.runs import open_plans
from embedmill.spec import PipelineSpec, load_pipeline_spec
from embedmill.spec.documents import Content, Gates, LogEntry, Plan
from embedmill.spec.reports import RunReport
from embedmill.store import open_store
from embedmill.types import Progress

OnProgress = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Pipeline:
    """One use case: a catalog, a model, a store. `root` is the folder that relative paths start from."""

    spec: PipelineSpec
    root: Path

    @classmethod
    def from_file(cls, path: str | Path) -> Pipeline:
        """Read a pipeline.yaml.

        Raises:
            SpecError: It is wrong; says where and what is allowed.
        """
        file = Path(path)
        return cls(load_pipeline_spec(file), file.absolute().parent)

    @cached_property
    def home(self) -> Home:
        """The pipeline's folder in its store."""
        return Home(open_store(self.spec.store, relative_to=self.root), self.spec.name)

    @cached_property
    def package(self) -> ModelPackage:
        """The model package that the spec names."""
        return ModelPackage.open(self.root / self.spec.model)

    def live(self) -> Release | None:
        """The live release, or None before the first."""
        live = read_history(self.home).live
        return open_release(self.home, live.release) if live else None

    def plan(self, on_progress: OnProgress = silent) -> PlannedRun:
        """Plan what there is to compute, or find the open run that planned just that.

        Open runs that no longer fit (the catalog, the model or the live release changed) are closed.
        """
        planner = Planner(self.home, self.spec, self.root, self.package, self.live())
        for plan in open_plans(self.home):
            why = planner.outdated(plan)
            if not why:
                return PlannedRun(self, plan, resumed=True)
            abandon(self.home, plan.run, why)
        rows = 0

        def on_rows(count: int) -> None:
            nonlocal rows
            rows += count
            on_progress(Progress("plan", rows))

        planned = PlannedRun(self, planner.plan(on_rows), resumed=False)
        on_progress(Progress("plan", rows, total=rows))
        return planned

    def open_run(self, run: str | None = None) -> PlannedRun:
        """The run with this name, or the newest one that is not closed.

        Raises:
            RunMissing: There is none.
        """
        if run is not None:
            return PlannedRun(self, self._planned(run), resumed=True)
        for plan in open_plans(self.home):
            return PlannedRun(self, plan, resumed=True)
        raise RunMissing(f"{self.home.url}: no open run", hint="`embedmill run` starts one")

    def _planned(self, run: str) -> Plan:
        try:
            return self.home.read(Plan, self.home.run_key(run, layout.PLAN))
        except ObjectMissing:
            hint = "`embedmill status` shows those that are open"
            raise RunMissing(f"{self.home.url}: no run {run!r}", hint=hint) from None

    def run(self, *, accept: Collection[str] = (), on_progress: OnProgress = silent) -> RunReport:
        """Plan and carry out a run, or finish the open one.

        Args:
            accept: Names of gates whose failure is accepted, and recorded: churn, empty, quarantine.
            on_progress: Hears how far each stage is.

        Raises:
            GateFailed: A gate stopped the candidate; the live release is untouched.
            Held: A rollback set a hold.
        """
        return self.plan(on_progress).run(accept=accept, on_progress=on_progress)


@dataclass(frozen=True)
class PlannedRun:
    """A plan in the store, and the stages that carry it out."""

    pipeline: Pipeline
    plan: Plan
    resumed: bool

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
        started = time.monotonic()
        self.work(on_progress)
        content = self.index(on_progress)
        gates = self.check(accept)
        if not gates.passed:
            raise _gate_failure(gates)
        entry = self.publish()
        return RunReport(
            release=content.release,
            number=entry.number,
            url=f"{self.home.url}/releases/{content.release}",
            total=content.counts.total,
            computed=content.computed,
            embedded=content.embedded,
            reused=content.reused,
            empty=content.empty,
            quarantined=content.quarantined,
            compacted=content.compacted,
            resumed=self.resumed,
            seconds=round(time.monotonic() - started, 3),
        )

    def work(self, on_progress: OnProgress = silent) -> None:
        """Start worker loops on the engine and wait until every shard has a commit record."""
        drive(self.home, self.plan, self.url, on_progress)

    def index(self, on_progress: OnProgress = silent) -> Content:
        """Join items and vectors into a candidate, compact and index its segments."""
        return assemble(
            self.home, self.plan, self._base(), lambda step: on_progress(Progress(step, unit="steps"))
        )

    def check(self, accept: Collection[str] = ()) -> Gates:
        """Run the gates on the candidate, and write gates.json and the report beside it.

        Raises:
            SpecError: `accept` names no gate that may be accepted.
            RunError: There is no candidate yet.
        """
        unknown = set(accept) - OVERRIDABLE
        if unknown:
            raise SpecError(
                f"--accept {', '.join(sorted(unknown))}: allowed are {', '.join(sorted(OVERRIDABLE))}"
            )
        content = self._content()
        candidate = Release(candidate_folder(self.home, content), content)
        gates = run_gates(GATES, candidate, self._base(), accept)
        return self._record(content, gates)

    def publish(self) -> LogEntry:
        """Seal the candidate and make it live.

        Raises:
            GateFailed: It was not checked, or a gate stands against it.
        """
        content = self._content()
        try:
            gates = self.home.read(Gates, self.home.release_key(self.plan.run, layout.GATES))
        except ObjectMissing:
            hint = "`embedmill check` does it"
            raise GateFailed(f"run {self.plan.run}: the candidate is not checked yet", hint=hint) from None
        if not gates.passed:
            raise _gate_failure(gates)
        return publish(self.home, self.plan, content)

    def _content(self) -> Content:
        try:
            return self.home.read(Content, self.home.release_key(self.plan.run, layout.CONTENT))
        except ObjectMissing:
            hint = "`embedmill index` makes it"
            raise RunError(f"run {self.plan.run}: there is no candidate yet", hint=hint) from None

    def _base(self) -> Release | None:
        return open_release(self.home, self.plan.base.release) if self.plan.base else None

    def _record(self, content: Content, gates: Gates) -> Gates:
        """Write the verdicts, unless the release is sealed: then those in it stand."""
        sealed = self.home.release_key(self.plan.run, layout.MANIFEST)
        key = self.home.release_key(self.plan.run, layout.GATES)
        if self.home.exists(sealed):
            return self.home.read(Gates, key)
        self.home.store.put(
            self.home.release_key(self.plan.run, layout.REPORT), render_report(content, gates)
        )
        self.home.store.put(key, gates.to_bytes())
        return gates


def _gate_failure(gates: Gates) -> GateFailed:
    failed = [verdict for verdict in gates.verdicts if not (verdict.passed or verdict.accepted)]
    said = "; ".join(f"{verdict.gate}: {verdict.message}" for verdict in failed)
    may = sorted({verdict.gate for verdict in failed} & OVERRIDABLE)
    hint = (
        f"if this is right, run again with {' '.join(f'--accept {gate}' for gate in may)}"
        if may
        else "fix the cause"
    )
    return GateFailed(f"release {gates.release} was not published: {said}", hint=hint)
