"""How the last runs of a pipeline ended, by what lies in its folder; read only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.errors import RunDamaged, RunMissing
from embedmill.release.layout import PLAN, REPORT
from embedmill.release.log import read_history
from embedmill.release.runs import read_plan, terminal_of
from embedmill.release.verdicts import verdicts_on
from embedmill.spec.platform import PastRun
from embedmill.store import folder_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedmill.release.layout import Home
    from embedmill.release.log import History
    from embedmill.spec.documents import Gates, Plan


def past_runs(home: Home, most: int) -> Iterator[PastRun]:
    """The newest runs, first the newest; those that died before they had a plan are left out."""
    history, told = read_history(home), 0
    for run in sorted(folder_names(home.store, f"{home.pipeline}/runs"), reverse=True):
        if told == most:
            return
        found = _past_run(home, history, run)
        if found is not None:
            told += 1
            yield found


def newest_plan(home: Home) -> Plan:
    """The plan of the newest run that has one, however it ended.

    Raises:
        RunMissing: There is none.
        RunDamaged: That of the newest run, which is open, is damaged; or all others are missing.
    """
    damaged: RunDamaged | None = None
    for run in sorted(folder_names(home.store, f"{home.pipeline}/runs"), reverse=True):
        try:
            if (plan := read_plan(home, run)) is not None:
                return plan
        except RunDamaged as error:
            if terminal_of(home, run) is None:
                raise
            damaged = damaged or error
    if damaged is not None:
        raise damaged
    live = read_history(home).live
    if live is not None:
        page = f"{home.url}/releases/{live.release}/{REPORT}"
        raise RunMissing(
            f"{home.url}: what loops did in earlier runs was collected",
            hint=f"{page} shows what they did for the live release",
        )
    raise RunMissing(f"{home.url}: there was no run yet", hint="`embedmill run` starts one")


def _past_run(home: Home, history: History, run: str) -> PastRun | None:
    entry = history.publication_of(run)
    if entry is not None:
        return PastRun(run=run, created=entry.created, outcome="published", why="")
    terminal = terminal_of(home, run)
    if terminal is not None and terminal.outcome == "abandon":
        return PastRun(run=run, created=terminal.created, outcome="given up", why=terminal.why)
    if terminal is not None and (terminal.number or 0) < history.next_number:
        return PastRun(run=run, created=terminal.created, outcome="lost", why="another was published first")
    plan = read_plan(home, run) if home.exists(home.run_key(run, PLAN)) else None
    if plan is None:
        return None
    gates = verdicts_on(home, run)
    if gates is not None and not gates.passed:
        return PastRun(run=run, created=plan.created, outcome="not published", why=_stopped_by(gates))
    return PastRun(run=run, created=plan.created, outcome="open", why="")


def _stopped_by(gates: Gates) -> str:
    failed = [verdict for verdict in gates.verdicts if not (verdict.passed or verdict.accepted)]
    return "; ".join(f"{verdict.gate}: {verdict.message}" for verdict in failed)
