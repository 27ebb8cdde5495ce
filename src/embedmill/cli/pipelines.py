"""`plan`, `run`, `resume`: a pipeline from its spec to a published release."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.failures import Interrupted
from embedmill.cli.importing import take_arrows_memory_from_the_system
from embedmill.cli.options import (
    Accept,
    AsJson,
    EngineName,
    Everything,
    FleetOfRun,
    NoCalibrate,
    OnePipeline,
    PipelineFile,
    Quiet,
    RunName,
    Wait,
    command,
    one_or_all,
    open_pipeline,
)
from embedmill.cli.output import data, duration, emit, facts, table, talk
from embedmill.cli.several import Devices, Seats, TurnS, run_all
from embedmill.cli.standing import status
from embedmill.cli.workers import shares_table
from embedmill.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedmill.cli.progress import Reporter
    from embedmill.planned import PlannedRun
    from embedmill.spec.documents import Estimate, Plan
    from embedmill.spec.reports import RunReport

    OnPlanned = Callable[[PlannedRun], None]

PANEL = "Pipelines"
WITH_QUARANTINE = 4


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for each in (plan, run, resume, drain, cancel, status):
        app.command(rich_help_panel=PANEL)(each)


def plan(
    pipeline: PipelineFile,
    no_calibrate: NoCalibrate = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show what a run would compute, how long it should take, and why."""
    from embedmill.cli.progress import reporting

    take_arrows_memory_from_the_system()
    with reporting(quiet=quiet) as reporter:
        planned = open_pipeline(pipeline, calibrate=not no_calibrate).plan(reporter)
    _say_outlived(planned)
    if as_json:
        from embedmill.spec.reports import PlanReport

        found = planned.plan
        emit(
            PlanReport(
                **{name: getattr(found, name) for name in ("run", "base", "items", "excluded", "compute")},
                **{name: getattr(found, name) for name in ("estimate", "why")},
                resumed=planned.resumed,
                outlived=dict(planned.outlived),
                reused=found.reused_vectors,
                shards=len(found.shards),
                epoch=found.numerics.epoch,
                numerics=found.numerics.why,
                calibration=found.calibration,
            )
        )
    else:
        _print_plan(planned, pipeline)


def _print_plan(planned: PlannedRun, file: Path) -> None:
    found, out = planned.plan, data()
    base = f"release {found.base.release} (number {found.base.number})" if found.base else "nothing"
    state = "open since" if planned.resumed else "made"
    out.print(facts([("plan", f"{found.run}, {state} {found.created}"), ("on top of", base)]))
    out.print()
    out.print(table("items", "", rows=_item_rows(found), numbers=[1]))
    out.print()
    work = [
        ("to compute", f"{counted(found.compute, 'vector')} in {counted(len(found.shards), 'shard')}"),
        ("to reuse", counted(found.reused_vectors, "vector")),
        ("estimate", _estimate(found.estimate)),
        *([("batches", str(found.calibration))] if found.calibration else []),
        ("why", found.why),
        *([("numerics", found.numerics.why)] if found.numerics.why else []),
        *([("quarantined", _why_quarantined(planned))] if found.items.quarantined else []),
    ]
    out.print(facts(work))
    out.print(f"\nCarry it out:  {command('run', file)}", soft_wrap=True)


def _why_quarantined(planned: PlannedRun) -> str:
    """Reasons of what the plan leaves out, and some of it; images may add to it while they are read."""
    from embedmill.release.quarantined import NAMED, quarantined_by

    return str(quarantined_by(planned.home, planned.plan, most=NAMED, of_each=1))


def _item_rows(found: Plan) -> list[tuple[str, int]]:
    items = found.items
    return [
        ("read", items.total),
        ("  new", items.new),
        ("  changed", items.changed),
        ("  unchanged", items.unchanged),
        *([("  of these kept, not fetched", items.kept)] if items.kept else []),
        ("  quarantined", items.quarantined),
        ("deleted since", items.deleted),
        ("with the input of another", items.duplicates),
        ("with an empty input", items.empty),
        ("left out by `where`", found.excluded),
    ]


def _estimate(estimate: Estimate) -> str:
    if estimate.seconds is None:
        return f"unknown: {estimate.source}"
    if not estimate.seconds:
        return estimate.source
    return f"about {duration(estimate.seconds)} ({estimate.source})"


def run(
    pipeline: OnePipeline = None,
    accept: Accept = None,
    engine: EngineName = None,
    fleet: FleetOfRun = None,
    wait: Wait = False,
    no_calibrate: NoCalibrate = False,
    everything: Everything = None,
    devices: Devices = None,
    turn: TurnS = 60.0,
    seats: Seats = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Plan, embed, index, check and publish, or finish the open run; of one pipeline, or of several."""
    file = one_or_all(pipeline, everything)
    if file is None:
        options = [*(f"--accept={gate}" for gate in accept or ()), *(["--wait"] if wait else [])]
        options += ["--no-calibrate"] if no_calibrate else []
        how = {
            "turn_s": turn,
            "devices": devices,
            "engine": engine,
            "fleet": fleet,
            "options": tuple(options),
        }
        run_all(everything or [], how, as_json=as_json, quiet=quiet)
        return

    def go(reporter: Reporter, on_planned: OnPlanned) -> RunReport:
        take_arrows_memory_from_the_system()
        calibrate = not no_calibrate
        opened = open_pipeline(file, engine=engine, fleet=fleet, wait=wait, seats=seats, calibrate=calibrate)
        return opened.run(accept=accept or (), on_progress=reporter, on_planned=on_planned)

    _carry_out(file, go, as_json, quiet)


def resume(
    pipeline: PipelineFile,
    accept: Accept = None,
    engine: EngineName = None,
    fleet: FleetOfRun = None,
    wait: Wait = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Finish the newest open run as it was planned."""

    def go(reporter: Reporter, on_planned: OnPlanned) -> RunReport:
        planned = open_pipeline(pipeline, engine=engine, fleet=fleet, wait=wait).open_run()
        on_planned(planned)
        return planned.run(accept=accept or (), on_progress=reporter)

    _carry_out(pipeline, go, as_json, quiet)


def cancel(pipeline: PipelineFile, run: RunName = None, as_json: AsJson = False) -> None:
    """Close an open run; the next one takes over what it has finished."""
    closed = open_pipeline(pipeline).cancel(run)
    if as_json:
        emit(closed)
    elif closed.outcome == "publish":
        talk().print(f"run {closed.run} is being published as number {closed.number}: too late to cancel")
    else:
        data().print(facts([("run", closed.run), ("closed", closed.why), ("next", command("run", pipeline))]))
    if closed.outcome == "publish":
        raise typer.Exit(1)


def drain(
    pipeline: PipelineFile,
    run: RunName = None,
    undo: Annotated[bool, typer.Option("--undo", help="Let workers join the run again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop all workers of an open run after their batch; `resume` or `run` goes on with it."""
    from embedmill.release import draining

    planned = open_pipeline(pipeline).open_run(run)
    told = (draining.undrain if undo else draining.drain)(planned.home, planned.plan.run)
    if as_json:
        emit(told)
        return
    since = f"since {told.created}: workers stop after their batch, and none joins"
    drained = since if told.active else "no: workers may join"
    data().print(facts([("run", told.run), ("drained", drained), ("next", command("resume", pipeline))]))


def _carry_out(
    file: Path, go: Callable[[Reporter, OnPlanned], RunReport], as_json: bool, quiet: bool
) -> None:
    from embedmill.cli.progress import reporting

    begun = False
    with reporting(quiet=quiet) as reporter:

        def on_planned(planned: PlannedRun) -> None:
            nonlocal begun
            begun = True
            _say_outlived(planned)
            if planned.plan.numerics.why:
                talk().print(planned.plan.numerics.why, style="yellow", soft_wrap=True)
            reporter.planned(planned.plan, resumed=planned.resumed)

        try:
            result = go(reporter, on_planned)
        except KeyboardInterrupt:
            raise _stopped(file, begun=begun) from None
    if as_json:
        emit(result)
    else:
        _print_result(result)
    if result.quarantined:
        items = counted(result.quarantined, "item is", "items are")
        say = f"{items} quarantined: {command('release show', file, '--quarantine')}"
        talk().print(say, style="yellow", soft_wrap=True)
        raise typer.Exit(WITH_QUARANTINE)


def _stopped(file: Path, *, begun: bool) -> Interrupted:
    """What is left of a run that was stopped, before or after it had a plan."""
    if begun:
        return Interrupted("stopped; finished shards are kept", hint=f"`{command('resume', file)}` goes on")
    return Interrupted("stopped before there was a plan", hint=f"`{command('run', file)}` begins again")


def _say_outlived(planned: PlannedRun) -> None:
    """An open run that is not gone on with is never left without a word."""
    for run, why in planned.outlived.items():
        say = f"run {run} is not gone on with: {why}; what fits of it is taken over"
        talk().print(say, style="yellow", soft_wrap=True)


def _print_result(result: RunReport) -> None:
    rows: list[tuple[str, object]] = [
        ("release", f"{result.release} (number {result.number})"),
        ("items read", result.total),
        ("embedded", f"{result.embedded:,} ({counted(result.computed, 'vector')} computed)"),
        ("reused", result.reused),
        *([("kept, not fetched", result.kept)] if result.kept else []),
        ("empty", result.empty),
        ("quarantined", result.quarantined),
        *([("numerics", result.numerics)] if result.numerics else []),
        ("took", duration(result.seconds)),
        ("lies in", result.url),
    ]
    data().print(facts(rows))
    if result.shares:
        data().print()
        data().print(shares_table(result.shares))
