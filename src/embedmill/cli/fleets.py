"""`fleet …`: what the GPUs of your servers are doing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from embedmill.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.spec.fleet import FleetSpec
    from embedmill.spec.fleet_reports import FleetProbe

app = typer.Typer(help="GPU servers: what they do, and what lacks on them.", no_args_is_help=True)

FleetFile: TypeAlias = Annotated[
    Path, typer.Option("--fleet", metavar="FLEET.yaml", help="The servers and how they are reached.")
]
Servers: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SERVER]...", help="Names of servers or pools; all of them if absent."),
]


@app.callback()
def _group() -> None:
    pass


def _look(spec: FleetSpec, servers: Sequence[str], window_s: float) -> FleetProbe:  # noqa: ARG001
    """Ask the servers."""
    raise SpecError("servers cannot be asked from here yet", hint="give --probe")
