"""Drives worker loops to the end of a run: starts them, watches the store, replaces those that are lost."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from embedmill.errors import WorkerFailed, Yielded
from embedmill.release.runs import Rejections, WorkState, check_open, work_state
from embedmill.types import Placement, Progress, WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedmill.engines import Engine
    from embedmill.release.layout import Home
    from embedmill.spec import WorkSpec
    from embedmill.spec.documents import Plan

POLL_S = 0.2
HOPELESS = frozenset({1, 2})
"""Exit codes that another try would not change: the worker said what is wrong."""
YIELDED = 75


def drive(
    home: Home,
    plan: Plan,
    spec: WorkSpec,
    engine: Engine,
    run_url: str,
    on_progress: Callable[[Progress], None],
) -> None:
    """Place loops on an engine, as many as `spec` says, until every shard is committed.

    Raises:
        RunClosed: Somebody gave the run up.
        WorkerFailed: Loops cannot work, or were lost too often without getting anything done.
        Yielded: All loops gave their devices back.
    """
    rejections = Rejections(home, plan)

    def tell(state: WorkState) -> None:
        on_progress(Progress("embed", state.rows_done, state.rows, "vectors", rejections.count()))

    state = work_state(home, plan)
    tell(state)
    if state.complete:
        return
    try:
        _watch(home, plan, spec, engine, run_url, tell)
    finally:
        engine.stop()


def _watch(
    home: Home,
    plan: Plan,
    spec: WorkSpec,
    engine: Engine,
    run_url: str,
    tell: Callable[[WorkState], None],
) -> None:
    places = _placements(plan, spec)
    engine.start(run_url, places)
    committed, losses = -1, 0
    while True:
        states = engine.states()  # before the store, so that an ended loop's last commit is seen
        state = work_state(home, plan)
        tell(state)
        if state.complete:
            return
        if state.committed > committed:
            committed, losses = state.committed, 0
        if any(known.exit_code == YIELDED for known in states):
            check_open(home, plan.run)
        lost = _lost(states)
        losses += len(lost)
        if losses > spec.attempts:
            raise WorkerFailed(
                f"run {plan.run}: {losses} workers in a row were lost without finishing a shard; "
                f"the last one {_ending(lost[-1])}",
                hint="finished shards are kept; `embedmill resume` goes on",
            )
        engine.start(run_url, [place for place in places if place.worker in {gone.worker for gone in lost}])
        if all(known.exit_code == YIELDED for known in states):
            raise Yielded(
                f"run {plan.run}: all workers stopped; {_ending(states[-1])}",
                hint="`embedmill resume` goes on",
            )
        home.world.sleep(POLL_S)


def _lost(states: Sequence[WorkerState]) -> list[WorkerState]:
    """Loops that ended although work is left, and that another try may help.

    Raises:
        WorkerFailed: A loop said that it cannot work.
    """
    for state in states:
        if state.exit_code in HOPELESS:
            raise WorkerFailed(
                f"worker {state.worker}: {state.said or f'ended with exit code {state.exit_code}'}"
            )
    return [state for state in states if state.exit_code not in {None, YIELDED}]


def _ending(state: WorkerState) -> str:
    code = state.exit_code or 0
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"{how}: {state.said}" if state.said else how


def _placements(plan: Plan, spec: WorkSpec) -> list[Placement]:
    """A loop a core, one thread each, and no more loops than shards."""
    cores = len(os.sched_getaffinity(0))
    count = min(spec.workers or cores, len(plan.shards))
    return [Placement(f"local-{number}") for number in range(count)]
