"""What a run on a fleet needs: credentials that are lent to its workers, and a search for idle GPUs.

each look:  ask servers ─▶ judge GPUs ─▶ match images ─▶ choose within limits ─▶ places
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from embedmill.catalog.files import IN_STORE
from embedmill.engines import SshEngine
from embedmill.errors import SpecError
from embedmill.fleet.asking import members, probe_fleet
from embedmill.fleet.baselines import baselines_file, learnt, read_baselines, write_baselines
from embedmill.fleet.container import Room
from embedmill.fleet.matching import match_fleet
from embedmill.fleet.placing import Placing, in_container
from embedmill.fleet.proofs import Proofs
from embedmill.fleet.reaching import host_of
from embedmill.spec import load_fleet_spec, load_images_of
from embedmill.store.credentials import Lending, lent_environment
from embedmill.store.opening import is_shared
from embedmill.types import Look

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from embedmill.model import ModelPackage
    from embedmill.release.layout import Home
    from embedmill.spec import ImagesSpec, PipelineSpec
    from embedmill.spec.documents import Plan
    from embedmill.spec.fleet import FleetSpec, ServerSpec
    from embedmill.spec.fleet_reports import FleetProbe
    from embedmill.spec.pipeline import CatalogSpec
    from embedmill.types import Host

LOCAL_SCHEMES = frozenset({"", "file"})
Ask: TypeAlias = Callable[[Mapping[str, int]], "FleetProbe"]
"""Asks all servers that may be used, and judges by this baseline of their GPUs' memory, in MiB by UUID."""


class Probing(Protocol):
    """Asks servers of a fleet what their GPUs are doing, as `probe_fleet` does."""

    def __call__(
        self, spec: FleetSpec, names: Sequence[str], *, baseline_mib: Mapping[str, int] | None
    ) -> FleetProbe:
        """What every one of them answered."""
        ...


@dataclass(frozen=True)
class Asking:
    """Who reaches servers: `host` is what engines know of one, `probe` asks many."""

    host: Callable[[str, ServerSpec], Host]
    probe: Probing


@dataclass(frozen=True)
class FleetPlaces:
    """Places on a fleet's idle GPUs, as a driver looks for them.

    `runtimes` are the kinds that can compute the model, under whose digest `model` proofs are kept.
    `refused`: servers that are not asked, and why.
    """

    placing: Placing
    ask: Ask
    again_s: float | None = 300.0
    waits: bool = False
    runtimes: tuple[str, ...] = ()
    proofs: Proofs | None = None
    model: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)

    def look(self, most: int, held: Collection[str]) -> Look:
        """Ask every server; it takes as long as a GPU must have been idle.

        Raises:
            SpecError: What an image requires is no expression.
            StoreError: Proofs cannot be read.
        """
        known, _ = read_baselines(baselines_file())
        probe = self.ask(known)
        more = learnt(known, [server.facts for server in probe.servers if server.facts is not None])
        if more != known:
            write_baselines(baselines_file(), more)
        match = match_fleet(probe, self.placing.images, self.proofs, model=self.model, runtimes=self.runtimes)
        found = self.placing.places(
            probe, match, now=datetime.now(UTC), held=held, most=most, baseline_mib=more
        )
        return Look(found.free, {**self.refused, **found.passed_over})


def fleet_engine(spec: PipelineSpec, home: Home) -> SshEngine:
    """An engine that lends its workers what opens the pipeline's folder."""
    lending = lending_of(spec)
    return SshEngine(lambda: lent_environment(home.store.url, home.pipeline, lending))


def check_borrowing(spec: PipelineSpec, root: Path, home: Home) -> None:
    """Say what would stop a run on a fleet now, and not after hours of planning.

    Raises:
        SpecError: As `places_on_fleet`, and `lent_environment`.
        StoreDenied, StoreUnavailable: The role for workers was not given.
    """
    _fleet_of(spec, root, home)
    lent_environment(home.store.url, home.pipeline, lending_of(spec))


def places_on_fleet(
    home: Home,
    plan: Plan,
    spec: PipelineSpec,
    root: Path,
    package: ModelPackage,
    *,
    waits: bool = False,
    by: Asking | None = None,
) -> FleetPlaces:
    """Places for a run on the servers of the pipeline's fleet.yaml, in containers.

    `root` is the folder that the spec's paths start from. `by`: who reaches servers, where it is not ssh.

    Raises:
        SpecError: A fleet.yaml or images.yaml is missing or wrong, or no server can open the store.
    """
    found = _fleet_of(spec, root, home)
    by = by or Asking(host_of, probe_fleet)
    placing = Placing(
        found.fleet,
        found.images,
        f"{home.url}/runs/{plan.run}",
        reach=lambda name: by.host(name, found.fleet.servers[name]),
        start=in_container(plan.run, Room()),
    )
    return FleetPlaces(
        placing,
        ask=lambda known: by.probe(found.fleet, found.names, baseline_mib=known),
        again_s=spec.work.look_again_s,
        waits=waits,
        runtimes=package.spec.kinds_for("item"),
        proofs=Proofs(home.store),
        model=package.package_digest(),
        refused=found.refused,
    )


class _Fleet(NamedTuple):
    """Specs, servers that can open the store, and why the others cannot."""

    fleet: FleetSpec
    images: ImagesSpec
    names: tuple[str, ...]
    refused: dict[str, str]


def _fleet_of(spec: PipelineSpec, root: Path, home: Home) -> _Fleet:
    if spec.fleet is None:
        raise SpecError("engine ssh: no servers are named", hint="set `fleet: fleet.yaml`, or give --fleet")
    fleet = load_fleet_spec(root / spec.fleet)
    images = load_images_of(fleet, root / spec.fleet)
    return _Fleet(fleet, images, *reachable_from(home.store.url, fleet, members(fleet, ())))


def reachable_from(
    store: str, spec: FleetSpec, names: Collection[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Servers whose workers can open a store, and why the others cannot. A bucket is open to all.

    `store`: its URL, with a whole path where it is a folder.

    Raises:
        SpecError: None of them can.
    """
    if store.startswith("memory:"):
        raise SpecError(
            f"store {store}: no other process can open it", hint="use a bucket, or a shared folder"
        )
    mounted = {name: is_shared(store, spec.servers[name].mounts) for name in names}
    if names and not any(mounted.values()):
        raise SpecError(
            f"store {store}: is a folder of this machine, which workers on {', '.join(names)} cannot open",
            hint="use a bucket such as s3://…; or, if it is a network disk, name it in the servers' `mounts`",
        )
    refused = {name: f"not asked: {store} is not in its `mounts`" for name in names if not mounted[name]}
    return tuple(name for name in names if mounted[name]), refused


def lending_of(spec: PipelineSpec) -> Lending:
    """What a pipeline allows to lend, and what workers read of the store beside its own folder."""
    work = spec.work
    return Lending(work.role, work.role_lasts_s, work.lend_keys, reads=tuple(_folders_read(spec.catalog)))


def _folders_read(catalog: CatalogSpec) -> list[str]:
    """Where images lie, if that is in the store: the folder that is named, or the source's."""
    if catalog.images is not None:
        named = catalog.images
        return [f"{named.removeprefix(IN_STORE).strip('/')}/"] if named.startswith(IN_STORE) else []
    if not catalog.source.startswith(IN_STORE):
        return []
    fixed = re.split(r"[*?[]", catalog.source.removeprefix(IN_STORE))[0]
    folder = fixed if fixed.endswith("/") else f"{PurePosixPath(fixed).parent}/"
    return [] if folder == "./" else [folder]
