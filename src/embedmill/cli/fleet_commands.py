"""`fleet command` and `fleet cdi`: how a worker would be started on a server, without starting one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.fleets import FleetFile, ImagesFile, images_of
from embedmill.cli.options import AsJson
from embedmill.cli.output import data, emit, emit_bytes, talk
from embedmill.errors import DeviceUnavailable

if TYPE_CHECKING:
    from embedmill.spec.fleet import FleetSpec
    from embedmill.spec.fleet_reports import FleetProbe
    from embedmill.spec.host import HostFacts

Server = Annotated[str, typer.Argument(metavar="SERVER", help="A server of fleet.yaml.", show_default=False)]
NONE = 3
"""No image runs on any GPU of the server."""


def register(app: typer.Typer) -> None:
    """Add the commands to the group `fleet`."""
    app.command()(command)
    app.command()(cdi)


def command(
    server: Server,
    fleet: FleetFile = Path("fleet.yaml"),
    images: ImagesFile = None,
    as_json: AsJson = False,
) -> None:
    """Print the command that would start a worker's container on each GPU, busy or not, or slice of one."""
    from embedmill.fleet.commands import commands_of
    from embedmill.spec.fleet_reports import FleetCommands, place_of
    from embedmill.spec.loading import load_fleet_spec

    spec = load_fleet_spec(fleet)
    declared = images_of(fleet, images)
    found = tuple(commands_of(spec, declared, _asked(spec, server)))
    if as_json:
        emit(FleetCommands(server=server, gpus=found))
    for each in () if as_json else found:
        talk().print(f"GPU {place_of(each)} ({each.name}): {each.reason}", soft_wrap=True)
        if each.command:
            data().print(shlex.join(each.command), soft_wrap=True)
    if not any(each.command for each in found):
        raise typer.Exit(NONE)


def cdi(
    server: Server,
    fleet: FleetFile = Path("fleet.yaml"),
    as_json: AsJson = False,  # noqa: ARG001 - it is JSON anyway
) -> None:
    """Print a CDI specification of a server's GPUs, for container tools that have no NVIDIA toolkit."""
    import json

    from embedmill.fleet.cdi import cdi_spec
    from embedmill.spec.loading import load_fleet_spec

    found = cdi_spec(_facts(_asked(load_fleet_spec(fleet), server)))
    emit_bytes((json.dumps(found, indent=2) + "\n").encode())


def _asked(spec: FleetSpec, server: str) -> FleetProbe:
    """What one server told, in one look."""
    from embedmill.fleet.asking import only_server, probe_fleet

    found = probe_fleet(spec, [only_server(spec, server)], window_s=0.0)
    _facts(found)
    return found


def _facts(probe: FleetProbe) -> HostFacts:
    (found,) = probe.servers
    if found.state != "ok" or found.facts is None:
        raise DeviceUnavailable(
            f"{found.server}: {found.state}: {found.reason}", hint="`embedmill fleet doctor`"
        )
    return found.facts
