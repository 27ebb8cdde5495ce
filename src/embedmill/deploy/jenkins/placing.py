"""Who works on a run: idle GPUs of agents, matched to images, with what each agent is told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedmill.deploy.jenkins.asking import AnsweredProbe
from embedmill.deploy.jenkins.settings import VARIABLE, agent_of, checked, lock_of
from embedmill.devices.bundle import bundle
from embedmill.engines.ssh import holder_order
from embedmill.errors import SpecError
from embedmill.fleet.borrowing import Asking, places_on_fleet
from embedmill.release.draining import undrain
from embedmill.release.runs import work_state
from embedmill.spec.jenkins import JenkinsPlace, JenkinsPlan
from embedmill.types import Host, Placement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from embedmill.planned import PlannedRun
    from embedmill.spec.fleet import FleetSpec, ServerSpec
    from embedmill.types import Look

PROGRAM, RUN, PLACES = "attend.py", "run.txt", "places.txt"


@dataclass(frozen=True)
class Placed:
    """A plan for people, and the files that the stages of a pipeline read."""

    plan: JenkinsPlan
    files: dict[str, bytes]


def place(planned: PlannedRun, facts: Path, lent: Sequence[str]) -> Placed:
    """Find places for what is left of a run, by the facts of agents.

    `lent`: names of environment variables that workers get of their agent's.

    Raises:
        SpecError: The pipeline names no fleet, or a name is no word.
    """
    for name in lent:
        checked("--lend", name, VARIABLE, "names of variables, with commas between")
    pipeline, plan, home = planned.pipeline, planned.plan, planned.home
    state = work_state(home, plan)
    fleet = places_on_fleet(
        home, plan, pipeline.spec, pipeline.root, pipeline.package, by=Asking(_host, AnsweredProbe(facts))
    )
    look = fleet.look(state.shards - state.committed, ())
    undrain(home, plan.run)
    made = JenkinsPlan(
        run=plan.run,
        url=planned.url,
        resumed=planned.resumed,
        shards=state.shards,
        shards_done=state.committed,
        places=tuple(_place(each, fleet.placing.spec) for each in look.free),
        passed_over=dict(look.passed_over),
    )
    return Placed(made, _files(made, look, lent))


def _place(placement: Placement, fleet: FleetSpec) -> JenkinsPlace:
    server = placement.host.name if placement.host else ""
    return JenkinsPlace(
        worker=placement.worker,
        label=agent_of(server, fleet.servers[server]),
        lock=lock_of(placement.worker),
        gpu=placement.type,
        image=placement.image,
    )


def _files(made: JenkinsPlan, look: Look, lent: Sequence[str]) -> dict[str, bytes]:
    lines = "".join(f"{each.worker} {each.label} {each.lock}\n" for each in made.places)
    return {
        PROGRAM: bundle("attend").encode(),
        RUN: f"{made.run}\n".encode(),
        PLACES: lines.encode(),
        **{f"{each.worker}.json": json.dumps(_order(each, made.url, lent)).encode() for each in look.free},
    }


def _order(placement: Placement, run_url: str, lent: Sequence[str]) -> dict[str, Any]:
    """What `devices/attend.py` is told: the same as a holder by ssh, but for where secrets come from."""
    order = holder_order(placement, run_url, {})
    if lent:
        order = {**order, "command": [*order["command"], "--environment-stdin"], "secrets": list(lent)}
    return order


def _host(name: str, server: ServerSpec) -> Host:
    """A server that an agent of Jenkins is on: nothing of ours reaches it."""
    if server.kind == "kubernetes":
        raise SpecError(f"{name}: kind kubernetes: is no agent of Jenkins")
    return Host(name, (), server.folder)
