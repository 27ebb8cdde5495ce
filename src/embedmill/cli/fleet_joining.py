"""`fleet up`, `fleet down`, and `ray-node`, which runs in the containers that `fleet up` starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from embedmill.cli.failures import one_line
from embedmill.cli.options import AsJson, EnvironmentStdin, Quiet, open_pipeline, take_environment
from embedmill.cli.output import data, duration, emit, table, talk
from embedmill.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedmill.fleet.nodes import Model, RayCluster
    from embedmill.spec.fleet import FleetSpec
    from embedmill.spec.ray_fleet import FleetUp

FAILED, NOTHING_IDLE = 1, 3
STYLES = {"joined": "bold green", "there": "green", "failed": "bold red"}

File: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A pipeline.yaml with a section `ray`; or a fleet.yaml, with --address.",
        show_default=False,
    ),
]
Servers: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SERVER...]", help="Names of servers or pools; all of them if absent."),
]
FleetFile: TypeAlias = Annotated[
    Path | None, typer.Option("--fleet", metavar="FLEET.yaml", help="Instead of the one that FILE names.")
]
Address: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="The cluster's head, as servers see it; FILE's if absent."),
]
TokenFile: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The file with the cluster's token; FILE's if absent.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the group `fleet`."""
    app.command()(up)
    app.command()(down)


def register_node(app: typer.Typer) -> None:
    """Add the command that nobody types."""
    app.command("ray-node", hidden=True)(ray_node)


def up(
    file: File,
    servers: Servers = None,
    fleet: FleetFile = None,
    address: Address = None,
    token_file: TokenFile = None,
    patience: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="How long a node may take to join.")
    ] = 90.0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Let idle GPUs join a Ray cluster, each in its matching container; ends with 3 if none is there."""
    from embedmill.engines.ray.head import Head
    from embedmill.fleet.asking import probe_fleet
    from embedmill.fleet.borrowing import Asking
    from embedmill.fleet.container import Room
    from embedmill.fleet.joining import Up
    from embedmill.fleet.nodes import node_places, with_ray
    from embedmill.fleet.reaching import host_of
    from embedmill.spec.loading import load_images_of

    wanted = _wanted(file, servers or (), fleet, address, token_file)
    images = load_images_of(wanted.fleet, wanted.fleet_file)
    head = Head(wanted.cluster.address, wanted.token_file)
    version = head.version()
    usable, refused = with_ray(images, version, wanted.images)
    places = node_places(
        wanted.cluster,
        wanted.fleet,
        usable,
        wanted.names,
        by=Asking(host_of, probe_fleet),
        room=Room(),
        model=wanted.model(),
    )
    tell = _telling(quiet=quiet)
    tell(f"Ray {version} at {wanted.cluster.address}: looking for idle GPUs")
    bringing = Up(wanted.cluster, head, version, patience, tell)
    found = bringing.run(lambda: places.look(MOST, ()), {**refused, **wanted.refused})
    emit(found) if as_json else _print(found)
    if any(node.state == "failed" for node in found.nodes):
        raise typer.Exit(FAILED)
    if not found.nodes:
        raise typer.Exit(NOTHING_IDLE)


def down(
    file: File,
    servers: Servers = None,
    fleet: FleetFile = None,
    address: Address = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Let all nodes that `fleet up` started for a cluster leave it; ends with 1 if a server is silent."""
    from embedmill.fleet.joining import take_down
    from embedmill.fleet.reaching import host_of

    wanted = _wanted(file, servers or (), fleet, address, token_file, opens=False)
    hosts = [
        host_of(name, wanted.fleet.servers[name])
        for name in wanted.names
        if wanted.fleet.servers[name].kind in {"ssh", "local"}
    ]
    found = take_down(wanted.cluster, hosts, _telling(quiet=quiet))
    if as_json:
        emit(found)
    else:
        rows = [(each.node, each.server, each.exit_code, one_line(each.said)) for each in found.nodes]
        if rows:
            data().print(table("node", "server", "exit code", "last words", rows=rows, numbers=[2]))
        for server, why in found.silent.items():
            talk().print(f"{server}: {why}", style="yellow", soft_wrap=True)
    if found.silent:
        raise typer.Exit(FAILED)


def ray_node(
    address: Annotated[str, typer.Option(metavar="HOST:PORT", help="The cluster's head.")],
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Of the node.")] = None,
    cpus: Annotated[int, typer.Option(min=1, help="That others may use.")] = 1,
    gpus: Annotated[int, typer.Option(min=0, help="That others may use.")] = 0,
    store_mib: Annotated[int, typer.Option(min=80, help="Of the object store.")] = 128,
    environment_stdin: EnvironmentStdin = False,
) -> None:
    """Be a node of a Ray cluster until SIGTERM; started by `fleet up`."""
    import os

    from embedmill.engines.ray.node import NodeOrder, join

    if environment_stdin:
        take_environment()
    labels = dict(each.partition("=")[::2] for each in label or ())
    order = NodeOrder(address, labels, cpus, gpus, store_mib)
    join(order, os.environ.pop("RAY_AUTH_TOKEN", None))


MOST = 1 << 20


@dataclass(frozen=True)
class _Wanted:
    """What the files and options say. `images`: names of those that may be used; none: all."""

    cluster: RayCluster
    token_file: Path | None
    fleet: FleetSpec
    fleet_file: Path
    names: tuple[str, ...]
    images: frozenset[str]
    model: Callable[[], Model]
    refused: dict[str, str]


def _wanted(
    file: Path,
    servers: Sequence[str],
    fleet: Path | None,
    address: str | None,
    token_file: Path | None,
    *,
    opens: bool = True,
) -> _Wanted:
    """`opens`: whether the cluster itself is asked anything, for which its token is needed."""
    from embedmill.spec.loading import names_servers

    if not names_servers(file):
        return _of_pipeline(file, servers, fleet, address, token_file)
    if address is None:
        hint = "give --address HOST:6379, or a pipeline.yaml with a section `ray`"
        raise SpecError(f"{file}: says nothing of a cluster of Ray", hint=hint)
    return _of_fleet(fleet or file, servers, _cluster(address, token_file, opens=opens), token_file)


def _of_fleet(file: Path, servers: Sequence[str], cluster: RayCluster, token_file: Path | None) -> _Wanted:
    from embedmill.fleet.asking import members
    from embedmill.fleet.nodes import Model
    from embedmill.spec.loading import load_fleet_spec

    spec = load_fleet_spec(file)
    names = tuple(members(spec, servers))
    return _Wanted(cluster, token_file, spec, file, names, frozenset(), Model, {})


def _of_pipeline(
    file: Path, servers: Sequence[str], fleet: Path | None, address: str | None, token_file: Path | None
) -> _Wanted:
    from embedmill.fleet.asking import members
    from embedmill.fleet.borrowing import reachable_from
    from embedmill.fleet.nodes import Model
    from embedmill.fleet.proofs import Proofs
    from embedmill.spec.loading import load_fleet_spec

    pipeline = open_pipeline(file, fleet=fleet)
    section, root = pipeline.spec.ray, pipeline.root
    if section is None:
        raise SpecError(f"{file}: nothing is said of a cluster of Ray", hint="write `ray: …`")
    if pipeline.spec.fleet is None:
        raise SpecError(f"{file}: no servers are named", hint="set `fleet: fleet.yaml`, or give --fleet")
    if token_file is None and section.token_file is not None:
        token_file = root / Path(section.token_file).expanduser()
    cluster = _cluster(address or section.address, token_file)
    fleet_file = root / pipeline.spec.fleet
    spec = load_fleet_spec(fleet_file)
    names, refused = reachable_from(pipeline.home.store.url, spec, members(spec, servers))
    images = [family.image for family in section.families.values()]
    named = frozenset(each for each in images if each is not None)

    def model() -> Model:
        package = pipeline.package
        kinds = tuple(runtime.kind for runtime in package.spec.runtimes_for("item"))
        return Model(kinds, Proofs(pipeline.home.store), package.package_digest())

    anything = frozenset[str]() if None in images else named
    return _Wanted(cluster, token_file, spec, fleet_file, names, anything, model, refused)


def _cluster(address: str, token_file: Path | None, *, opens: bool = True) -> RayCluster:
    """The cluster, with its token."""
    from embedmill.fleet.nodes import RayCluster
    from embedmill.spec.ray import CLIENT, host_of, is_loopback

    if address.startswith(CLIENT):
        hint = "give --address HOST:6379: nodes join at the head itself, not where clients connect"
        raise SpecError(f"{address}: is not where nodes join", hint=hint)
    if token_file is None:
        if opens and not is_loopback(host_of(address)):
            hint = "give --token-file; see CVE-2023-48022"
            raise SpecError(f"{address}: whoever reaches it needs a token, or runs what they like", hint=hint)
        return RayCluster(address)
    try:
        token = token_file.read_text("utf-8").strip()
    except OSError as error:
        why = (error.strerror or "").lower()
        raise SpecError(f"{token_file}: the token cannot be read: {why}") from None
    if not token:
        raise SpecError(f"{token_file}: has no token")
    return RayCluster(address, token)


def _telling(*, quiet: bool) -> Callable[[str], None]:
    console = talk()
    return lambda words: None if quiet else console.print(one_line(words), soft_wrap=True)


def _print(found: FleetUp) -> None:
    from rich.text import Text

    out = data()
    if found.nodes:
        rows = [
            (each.node, each.server, each.type, each.image, Text(each.state, STYLES[each.state]))
            for each in found.nodes
        ]
        out.print(table("node", "server", "type", "image", "state", rows=rows))
    for each in found.nodes:
        if each.said:
            talk().print(one_line(f"{each.node}: {each.said}"), style="red", soft_wrap=True)
    for place, why in found.passed_over.items():
        talk().print(one_line(f"{place}: {why}"), style="yellow", soft_wrap=True)
    count = sum(each.state != "failed" for each in found.nodes)
    talk().print(
        f"{count} node{'' if count == 1 else 's'} of this fleet in the cluster, after "
        f"{duration(found.seconds)}",
        soft_wrap=True,
    )
