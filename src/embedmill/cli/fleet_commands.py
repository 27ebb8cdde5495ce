"""`fleet command` and `fleet cdi`: how a worker would be started on a server, without starting one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.fleet_proving import ImagesFile, images_of
from embedmill.cli.fleets import FleetFile
from embedmill.cli.options import AsJson
from embedmill.cli.output import data, emit, emit_bytes, talk
from embedmill.errors import DeviceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedmill.spec.fleet import FleetSpec
    from embedmill.spec.fleet_reports import GpuCommand
    from embedmill.spec.host import HostFacts
    from embedmill.spec.images import ImagesSpec

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
    """Print the command that would start a worker's container on each GPU of a server, busy or not."""
    from embedmill.spec.fleet_reports import FleetCommands
    from embedmill.spec.loading import load_fleet_spec

    spec = load_fleet_spec(fleet)
    found = tuple(_commands(spec, images_of(spec, fleet, images), server, _facts(spec, server)))
    if as_json:
        emit(FleetCommands(server=server, gpus=found))
    for each in () if as_json else found:
        talk().print(f"GPU {each.index} ({each.name}): {each.reason}", soft_wrap=True)
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

    found = cdi_spec(_facts(load_fleet_spec(fleet), server))
    emit_bytes((json.dumps(found, indent=2) + "\n").encode())


def _facts(spec: FleetSpec, server: str) -> HostFacts:
    from embedmill.fleet.asking import only_server, probe_fleet

    (found,) = probe_fleet(spec, [only_server(spec, server)], window_s=0.0).servers
    if found.state != "ok" or found.facts is None:
        raise DeviceUnavailable(f"{server}: {found.state}: {found.reason}", hint="`embedmill fleet doctor`")
    return found.facts


def _commands(spec: FleetSpec, images: ImagesSpec, server: str, facts: HostFacts) -> Iterator[GpuCommand]:
    from embedmill.fleet.container import Borrowed, container_command
    from embedmill.fleet.matching import match
    from embedmill.spec.fleet_reports import GpuCommand

    for gpu in facts.gpus:
        command: tuple[str, ...] = ()
        said = []
        for name, image in images.images.items():
            verdict = match(gpu, facts, image, name=name)
            said.append(f"{name}: {verdict.reason}")
            if not verdict.accepted:
                continue
            borrowed = Borrowed(gpu, rule=verdict.rule)
            worker = f"{server}-{gpu.index}"
            try:
                command = container_command(
                    facts, borrowed, image, spec.servers[server], worker=worker, run="RUN"
                )
            except DeviceUnavailable as error:
                said.append(str(error))
            break
        reason = said[-1] if command else "; ".join(said)
        yield GpuCommand(index=gpu.index, uuid=gpu.uuid, name=gpu.name, command=command, reason=reason)
