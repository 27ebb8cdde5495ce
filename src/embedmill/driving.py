"""Drives worker loops to the end of a run: starts them, watches the store, replaces those that are lost."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from embedmill.errors import WorkerFailed, Yielded
from embedmill.release.draining import undrain
from embedmill.release.runs import Rejections, Watch, WorkState, check_open
from embedmill.store.pace import LOOK_S, POLITE_LOOK_S
from embedmill.types import Placement, Progress, WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from embedmill.engines import Engine
    from embedmill.release.layout import Home
    from embedmill.spec import WorkSpec
    from embedmill.spec.documents import Plan

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
    watch, rejections = Watch(home, plan), Rejections(home, plan)

    def look() -> WorkState:
        state = watch.look()
        failed = rejections.count(state.committed)
        on_progress(Progress("embed", state.rows_done, state.rows, "vectors", failed))
        return state

    if look().complete:
        return
    undrain(home, plan.run)
    try:
        _watch(home, plan, spec, engine, run_url, look)
    finally:
        engine.stop()


def _watch(
    home: Home,
    plan: Plan,
    spec: WorkSpec,
    engine: Engine,
    run_url: str,
    look: Callable[[], WorkState],
) -> None:
    places = _placements(plan, spec)
    engine.start(run_url, places)
    committed, losses = -1, 0
    for states in _states_worth_a_look(home, engine):
        state = look()
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


def _states_worth_a_look(home: Home, engine: Engine) -> Iterator[list[WorkerState]]:
    """What the engine says, each time that the store should be looked at afterwards.

    So an ended loop's last commit is seen. A remote store is looked at every 2 s, and when a loop ends: the
    engine is asked as often as ever, so that nothing takes longer.
    """
    before: list[WorkerState] = []
    looked_s = home.world.monotonic()
    while True:
        states, now_s = engine.states(), home.world.monotonic()
        if not home.store.remote or states != before or now_s - looked_s >= POLITE_LOOK_S:
            before, looked_s = states, now_s
            yield states
        home.world.sleep(LOOK_S)


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
