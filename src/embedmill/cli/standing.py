"""`status`: what is live, what is open, who works on it, and what to do next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.cli.options import AsJson, Everything, OnePipeline, command, one_or_all, open_pipeline
from embedmill.cli.output import data, emit, facts, table
from embedmill.cli.several import status_all
from embedmill.cli.workers import loops_table, shares_table, silent, with_small_batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.pipeline import Pipeline
    from embedmill.release.layout import Home
    from embedmill.spec.reports import RunState, StatusReport


def status(pipeline: OnePipeline = None, everything: Everything = None, as_json: AsJson = False) -> None:
    """Show what is live and open, how busy workers are, what to do; or how fresh several pipelines are."""
    file = one_or_all(pipeline, everything)
    if file is None:
        status_all(everything or [], as_json=as_json)
        return
    opened = open_pipeline(file)
    stopped = _StoppedBy(opened.home)
    report = _status(opened, file, stopped)
    if as_json:
        emit(report)
        return
    out = data()
    live = f"{report.live.release} (number {report.live.number})" if report.live else "nothing yet"
    live += f": {report.trouble}" if report.trouble else ""
    hold = "none"
    if report.hold:
        note = _note_of(opened.home)
        hold = f"since log entry {report.hold}{f' ({note})' if note else ''}: runs do not publish"
    out.print(facts([("pipeline", report.pipeline), ("lies in", report.url), ("live", live), ("hold", hold)]))
    if report.open_runs:
        _print_open_runs(report.open_runs, opened.home, stopped)
    out.print(f"\nNext:  {report.next}", soft_wrap=True)


def _print_open_runs(states: Sequence[RunState], home: Home, stopped: _StoppedBy) -> None:
    """How far they are, who works on them, and what becomes of them."""
    from embedmill.release.draining import is_drained

    out = data()
    out.print()
    rows = [
        (
            state.run,
            state.created,
            f"{state.shards_done:,} of {state.shards:,}",
            f"{state.vectors_done:,} of {state.vectors:,}",
        )
        for state in states
    ]
    out.print(table("open run", "created", "shards", "vectors", rows=rows, numbers=[2, 3]))
    out.print()
    for state in states:
        if state.shares:
            out.print(shares_table(state.shares))
            out.print()
        if state.loops:
            out.print(loops_table(state.loops))
            for line in (*with_small_batches(state.loops), *silent(state.loops)):
                out.print(line, soft_wrap=True)
            out.print()
    drained = {state.run for state in states if is_drained(home, state.run)}
    for state in states:
        if state.calibration:
            out.print(f"batches of {state.run}: {state.calibration}", soft_wrap=True)
        if state.stopped:
            out.print(f"{state.run}: {state.stopped}", soft_wrap=True)
        out.print(_going_on(state, stopped(state), drained=state.run in drained), soft_wrap=True)
    _say_how_to_help([state for state in states if state.run not in drained])


def _note_of(home: Home) -> str:
    """Why somebody rolled back, in their words."""
    from embedmill.release.log import read_history

    held = read_history(home).hold
    return held.note if held else ""


class _StoppedBy:
    """Gates that stand against open runs. `run` goes on with such a run, and is stopped again."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def __call__(self, state: RunState) -> list[str]:
        """Names of gates; none where it is not checked yet, or passed."""
        from embedmill.release.verdicts import verdicts_on

        if state.shards_done < state.shards:
            return []
        gates = verdicts_on(self._home, state.run)
        return [each.gate for each in gates.verdicts if not (each.passed or each.accepted)] if gates else []


def _going_on(state: RunState, stopped: Sequence[str], *, drained: bool) -> str:
    """Whether `run` goes on with it, in words."""
    if drained and state.goes_on:
        return f"{state.run} is drained: no worker works on it until `run` or `resume` goes on with it"
    also = "; it is drained: no worker works on it until `resume` goes on with it" if drained else ""
    match state.goes_on:
        case True if stopped:
            return f"`run` checks {state.run} again, which was stopped by {' and '.join(stopped)}"
        case True:
            return f"`run` goes on with {state.run}"
        case False:
            return f"`run` does not go on with {state.run}: {state.why}{also}"
    return f"whether `run` goes on with {state.run} cannot be told: {state.why}{also}"


def _say_how_to_help(states: Sequence[RunState]) -> None:
    """Where shards are left that somebody goes on with, another worker may join."""
    open_ones = [each for each in states if each.shards_done < each.shards]
    state = next((each for each in open_ones if each.goes_on is not False), None)
    if state is not None:
        threads = state.calibration.chosen.threads if state.calibration else 1
        line = f"embedmill worker --run {shlex.quote(state.url)} --name NAME"
        line += f" --threads {threads}" if threads != 1 else ""
        data().print(f"\nHelp with it:  {line}", soft_wrap=True)


def _status(pipeline: Pipeline, file: Path, stopped: _StoppedBy) -> StatusReport:
    from embedmill.release.describe import items_of, run_states
    from embedmill.release.log import read_history
    from embedmill.spec.reports import StatusReport

    home = pipeline.home
    history, states = read_history(home), tuple(run_states(home, pipeline.outdated))
    current = next((stopped(state) for state in states if state.goes_on), [])
    held, live = history.hold is not None, history.live is not None
    trouble = items_of(home, history.live.release)[1] if history.live else ""
    if trouble:
        what = _mending(file)
    elif held or not current:
        what = _next(file, states, held=held, live=live)
    else:
        what = _after(file, current)
    return StatusReport(
        pipeline=home.pipeline,
        url=home.url,
        live=history.live,
        hold=history.hold.number if history.hold else None,
        open_runs=states,
        next=what,
        trouble=trouble,
    )


def _mending(file: Path) -> str:
    """What to do where the live release is no whole one: until then `run` ends with an error."""
    from embedmill.release.integrity import WHAT_NEXT

    return f"{command('release ls', file)}  # shows others; {WHAT_NEXT}"


def _next(file: Path, states: Sequence[RunState], *, held: bool, live: bool) -> str:
    """A command line, with a comment on what it does."""
    if held:
        return f"{command('release unhold', file)}  # once the cause is mended"
    if any(state.goes_on for state in states):
        return f"{command('run', file)}  # finishes the open run"
    if any(state.goes_on is None for state in states):
        return f"{command('resume', file)}  # finishes the newest open run as it was planned"
    if states:
        return f"{command('run', file)}  # plans anew, and takes over what open runs have finished"
    if live:
        return f"{command('run', file)}  # brings the release up to date"
    return f"{command('plan', file)}  # shows what a first release takes"


def _after(file: Path, stopped: Sequence[str]) -> str:
    """What to do about the open run that these gates stopped."""
    from embedmill.gates import OF_PRODUCTION, OVERRIDABLE, OWN_ANEW

    if set(stopped) - OVERRIDABLE - OF_PRODUCTION:
        return f"{command('cancel', file)}  # once the cause is mended, and `run`: {OWN_ANEW}"
    if set(stopped) & OF_PRODUCTION:
        return f"{command('run', file)}  # once production is mended: checks it again"
    if "quarantine" in stopped:
        lists = command("check", file, "--quarantine")
        return f"{lists}  # shows what it lacks; `run` plans anew once that is mended"
    accepted = [word for gate in stopped for word in ("--accept", gate)]
    return f"{command('run', file, *accepted)}  # if it is right all the same: publishes it"
