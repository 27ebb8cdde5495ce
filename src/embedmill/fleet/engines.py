"""The engine that a pipeline names, and where else than on this machine its loops may run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.engines import Engine, LocalEngine, RayEngine
from embedmill.fleet.borrowing import FleetPlaces, check_borrowing, fleet_engine, places_on_fleet
from embedmill.fleet.cluster import ClusterPlaces, cluster_engine, places_on_cluster
from embedmill.fleet.ray_places import RayPlaces, check_cluster, places_on_ray, ray_engine

if TYPE_CHECKING:
    from pathlib import Path

    from embedmill.model import ModelPackage
    from embedmill.release.layout import Home
    from embedmill.spec import PipelineSpec
    from embedmill.spec.documents import Plan


def engine_of(spec: PipelineSpec, home: Home, root: Path) -> Engine:
    """A new one of the kind that the spec names; `root` is the folder that the spec's paths start from.

    Raises:
        SpecError: What it needs is not in the spec, or wrong.
    """
    match spec.engine:
        case "local":
            return LocalEngine()
        case "ssh":
            return fleet_engine(spec, home)
        case "kubernetes":
            return cluster_engine(spec, root)
        case "ray":
            return ray_engine(spec, home, root)


def check_places(home: Home, spec: PipelineSpec, root: Path, package: ModelPackage) -> None:
    """Say what would stop the spec's engine now, and not after hours of planning; of this machine: nothing.

    Raises:
        EmbedmillError: As `engine_of` and `places_elsewhere`.
    """
    check_borrowing(spec, root, home)
    if spec.engine == "kubernetes":
        cluster_engine(spec, root)
        places_on_cluster(spec, root, home.store.url, kinds_of(package))
    if spec.engine == "ray":
        check_cluster(spec, home, root, kinds_of(package))


def kinds_of(package: ModelPackage) -> tuple[str, ...]:
    """The kinds of runtime that can compute the vectors of items."""
    return package.spec.kinds_for("item")


def places_elsewhere(
    home: Home,
    plan: Plan,
    spec: PipelineSpec,
    root: Path,
    package: ModelPackage,
    engine: Engine | None,
    *,
    waits: bool,
) -> FleetPlaces | ClusterPlaces | RayPlaces:
    """Places for a run's loops on servers or a cluster, as the spec's engine has them.

    Raises:
        SpecError: What it needs is not in the spec, or wrong.
    """
    if spec.engine == "kubernetes":
        return places_on_cluster(spec, root, home.store.url, kinds_of(package))
    if spec.engine == "ray":
        asked = engine if isinstance(engine, RayEngine) else ray_engine(spec, home, root)
        return places_on_ray(spec, root, home.store.url, kinds_of(package), asked)
    return places_on_fleet(home, plan, spec, root, package, waits=waits)
