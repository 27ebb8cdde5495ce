"""Nodes of a Ray cluster on borrowed GPUs: in which container each runs, and what its holder is told."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedmill.engines.ssh import GRACE_S, holder_name
from embedmill.errors import SpecError
from embedmill.fleet.borrowing import Asking, FleetPlaces
from embedmill.fleet.container import NETWORKS, Room
from embedmill.fleet.placing import Placing, in_container
from embedmill.spec.ray import GPU_MEMORY_LABEL, IMAGE_LABEL, SERVER_LABEL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from embedmill.fleet.placing import Spot, Start, Starting
    from embedmill.fleet.proofs import Proofs
    from embedmill.spec.fleet import FleetSpec
    from embedmill.spec.images import ImagesSpec
    from embedmill.types import Host, Placement

GPU_LABEL = "embedmill.io/gpu"
STORE_MIB = 128
"""Of Ray's object store: vectors go to the release's store, and not through Ray."""
SHARED_MEMORY = ("--shm-size", "--ipc")


@dataclass(frozen=True)
class RayCluster:
    """A cluster, by HOST:PORT of its head, and the token that opens it."""

    address: str
    token: str | None = None

    @property
    def url(self) -> str:
        """What names of its nodes are made of: two clusters never take each other's for their own."""
        return f"ray://{self.address}"

    @property
    def name(self) -> str:
        """Of its containers."""
        return f"ray{self.ending.replace('.', '-')}"

    @property
    def ending(self) -> str:
        """How a holder's names of its nodes end."""
        return holder_name(self.url, "")

    def __repr__(self) -> str:
        return f"RayCluster({self.address!r})"


@dataclass(frozen=True)
class Model:
    """What images are matched for, where it is known: kinds of runtime, proofs of a package by its digest."""

    runtimes: tuple[str, ...] = ()
    proofs: Proofs | None = None
    digest: str = ""


def node_places(
    cluster: RayCluster,
    fleet: FleetSpec,
    images: ImagesSpec,
    names: Sequence[str],
    *,
    by: Asking,
    room: Room,
    model: Model = Model(),
) -> FleetPlaces:
    """Idle GPUs of these servers, as a run of the engine ssh would find them; with places for nodes there."""
    placing = Placing(
        fleet,
        images,
        cluster.url,
        reach=lambda name: by.host(name, fleet.servers[name]),
        start=in_node_container(cluster, room),
    )
    return FleetPlaces(
        placing,
        ask=lambda known: by.probe(fleet, names, baseline_mib=known),
        runtimes=model.runtimes,
        proofs=model.proofs,
        model=model.digest,
    )


def in_node_container(cluster: RayCluster, room: Room) -> Starting:
    """Starts nodes in the very containers in which worker loops are started, in the server's own network.

    A container's private network has addresses that no other node can reach.
    """
    start = in_container(cluster.name, room)

    def start_node(spot: Spot) -> Start:
        arguments = (*spot.server.arguments, *_needed(spot.server.arguments))
        server = spot.server.model_copy(update={"arguments": arguments})
        return start(dataclasses.replace(spot, server=server))

    return start_node


def host_of(place: Placement) -> Host:
    """The server of a place on a fleet.

    Raises:
        SpecError: It is a place of this machine.
    """
    if place.host is None:
        raise SpecError(f"{place.worker}: is on no server")
    return place.host


def node_order(place: Placement, cluster: RayCluster) -> dict[str, Any]:
    """What a holder is told, to start a node; see `devices/holder.py`. The token is in its input alone."""
    host = host_of(place)
    labels = {SERVER_LABEL: host.name, GPU_LABEL: place.gpus[0], IMAGE_LABEL: place.image}
    if place.gpu_memory_mib is not None:
        labels[GPU_MEMORY_LABEL] = str(place.gpu_memory_mib)
    command = [*place.command, "ray-node", "--address", cluster.address]
    command += ["--cpus", str(place.threads), "--gpus", str(int(place.device == "cuda"))]
    command += ["--store-mib", str(STORE_MIB)]
    command += [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
    secrets = {} if cluster.token is None else {"RAY_AUTH_TOKEN": cluster.token}
    return {
        "worker": holder_name(cluster.url, place.worker),
        "about": f"a node of Ray at {cluster.address}",
        "folder": host.folder,
        "gpus": list(place.gpus),
        "command": [*command, "--environment-stdin"],
        "input": json.dumps(secrets),
        "environment": {},
        "watch": dataclasses.asdict(place.yields) if place.yields else None,
        "grace_s": GRACE_S,
        "cleanup": list(place.cleanup),
        "cidfile": place.cid_file or None,
    }


def with_ray(
    images: ImagesSpec, version: str, wanted: Collection[str] = ()
) -> tuple[ImagesSpec, dict[str, str]]:
    """Images that have the cluster's Ray, and why the others cannot join; only `wanted` ones, if any are.

    Raises:
        SpecError: None of them has.
    """
    usable, refused = {}, {}
    for name, image in images.images.items():
        if wanted and name not in wanted:
            continue
        if image.ray == version:
            usable[name] = image
        else:
            has = "has no Ray" if image.ray is None else f"has Ray {image.ray}"
            refused[f"image {name}"] = f"{has}, and the cluster has {version}"
    if not usable:
        why = "; ".join(f"{name} {words}" for name, words in refused.items()) or "none is asked for"
        raise SpecError(
            f"no image can join the cluster: {why}",
            hint=f"`embedmill images render … --ray {version}` makes one; images.yaml says `ray: {version}`",
        )
    for name, image in usable.items():
        if image.replaces is not None and image.replaces not in usable:
            usable[name] = image.model_copy(update={"replaces": None})
    return images.model_copy(update={"images": usable}), refused


def _needed(arguments: Sequence[str]) -> Iterator[str]:
    """What a node's container needs that fleet.yaml does not say."""
    given = {each.split("=")[0] for each in arguments}
    if not given.intersection(NETWORKS):
        yield "--network=host"
    if not given.intersection(SHARED_MEMORY):
        yield f"--shm-size={2 * STORE_MIB}m"
