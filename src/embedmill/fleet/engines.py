"""The engines that a pipeline names, and where their loops may run.

What an engine needs is imported where a pipeline names it: to import all takes longer than many a command.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from embedmill.cores import EVERY, cores, cores_at_once
from embedmill.engines import Engine, LocalEngine, LocalPlaces, MixedEngine, Places
from embedmill.errors import EmbedmillError
from embedmill.model.lanes import lanes_of

if TYPE_CHECKING:
    from pathlib import Path

    from embedmill.model import ModelPackage
    from embedmill.release.layout import Home
    from embedmill.spec import PipelineSpec
    from embedmill.spec.documents import Plan
    from embedmill.spec.pipeline import EngineName

FOR_NOW = 75
"""The exit code of what may be gone when it is tried again."""

WORTH_A_LOOP_S = 2.0
"""Of work, for one loop: to start one takes about a core for a second."""


def engine_of(spec: PipelineSpec, home: Home, root: Path) -> Engine:
    """A new one of the kind that the spec names, or of several; `root` is where the spec's paths start.

    Raises:
        SpecError: What it needs is not in the spec, or wrong.
    """
    if isinstance(spec.engine, str):
        return _engine(spec.engine, spec, home, root)
    return MixedEngine({name: _engine(name, spec, home, root) for name in spec.engine})


def check_places(home: Home, spec: PipelineSpec, root: Path, package: ModelPackage) -> None:
    """Say what would stop the spec's engine now, and not after hours of planning; of this machine: nothing.

    Of several engines, one that gives no answer now may give one later, if another is there.

    Raises:
        EmbedmillError: As `engine_of` and `places_of`.
    """
    failed = []
    for name in spec.engines:
        try:
            _check(name, home, spec, root, package)
        except EmbedmillError as error:
            failed.append(error)
            if error.exit_code != FOR_NOW or len(failed) == len(spec.engines):
                raise


def kinds_of(package: ModelPackage) -> tuple[str, ...]:
    """The kinds of runtime that can compute the vectors of items."""
    return package.spec.kinds_for("item")


def places_of(
    home: Home,
    plan: Plan,
    spec: PipelineSpec,
    root: Path,
    package: ModelPackage,
    engine: Engine,
    *,
    waits: bool,
    apart: bool = False,
) -> Places:
    """Places for a run's loops, as the spec's engine has them, or all of its engines. `engine`: theirs.

    `apart`: loops of this machine are to take a core each, since others may be given some of them.

    Raises:
        SpecError: What it needs is not in the spec, or wrong.
    """
    lanes = 1 if apart else lanes_of(package)

    def places(name: EngineName, engine: Engine) -> Places:
        match name:
            case "local":
                worth = loops_worth_starting(plan, lanes)
                return LocalPlaces(
                    spec.work.workers, plan.threads, lanes=lanes, worth=spec.work.workers or worth
                )
            case "ssh":
                from embedmill.fleet.borrowing import places_on_fleet

                return places_on_fleet(home, plan, spec, root, package, waits=waits)
            case "kubernetes":
                from embedmill.fleet.cluster import places_on_cluster

                return places_on_cluster(spec, root, home.store.url, kinds_of(package))
            case "jenkins":
                from embedmill.fleet.agents import places_on_agents

                return places_on_agents(spec, home.url)
            case "ray":
                from embedmill.engines import RayEngine
                from embedmill.fleet.ray_places import places_on_ray, ray_engine

                asked = engine if isinstance(engine, RayEngine) else ray_engine(spec, home, root)
                return places_on_ray(spec, root, home.store.url, kinds_of(package), asked)

    if isinstance(spec.engine, str):
        return places(spec.engine, engine)
    from embedmill.fleet.mixing import MixedPlaces

    parts = engine.parts if isinstance(engine, MixedEngine) else {}
    mixed: dict[str, Places] = {name: places(name, parts.get(name, engine)) for name in spec.engine}
    return MixedPlaces(mixed, clock=home.world.monotonic)


def loops_worth_starting(plan: Plan, lanes: int = 1, every: int | None = None) -> int:
    """As many as `every` core, by default of this machine, is enough for; fewer if a refresh is soon done.

    A first release starts all: its sample says too little of how long it takes.
    """
    every = every or cores(EVERY)
    most = math.ceil(max(1, every // plan.threads) / lanes)
    if plan.base is None or plan.estimate.seconds is None:
        return most
    at_once = cores_at_once(max(1, len(plan.shards)), None, lanes, every)
    alone_s = plan.estimate.seconds * at_once / plan.threads
    return max(1, min(most, math.ceil(alone_s / WORTH_A_LOOP_S)))


def _engine(name: EngineName, spec: PipelineSpec, home: Home, root: Path) -> Engine:
    match name:
        case "local":
            return LocalEngine()
        case "ssh":
            from embedmill.fleet.borrowing import fleet_engine

            return fleet_engine(spec, home)
        case "kubernetes":
            from embedmill.fleet.cluster import cluster_engine

            return cluster_engine(spec, root)
        case "jenkins":
            from embedmill.fleet.agents import agent_engine

            return agent_engine(spec, root)
        case "ray":
            from embedmill.fleet.ray_places import ray_engine

            return ray_engine(spec, home, root)


def _check(name: EngineName, home: Home, spec: PipelineSpec, root: Path, package: ModelPackage) -> None:
    match name:
        case "ssh":
            from embedmill.fleet.borrowing import check_borrowing

            check_borrowing(spec, root, home)
        case "kubernetes":
            from embedmill.fleet.cluster import cluster_engine, places_on_cluster

            cluster_engine(spec, root)
            places_on_cluster(spec, root, home.store.url, kinds_of(package))
        case "jenkins":
            from embedmill.fleet.agents import agent_engine, places_on_agents

            agent_engine(spec, root)
            places_on_agents(spec, home.url)
        case "ray":
            from embedmill.fleet.ray_places import check_cluster

            check_cluster(spec, home, root, kinds_of(package))
        case "local":
            pass
