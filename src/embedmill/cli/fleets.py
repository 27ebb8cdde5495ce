"""`fleet …`: what the GPUs of your servers are doing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from embedmill.cli.options import AsJson, Quiet
from embedmill.cli.output import data, emit, emit_bytes, talk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.cli.progress import Reporter
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
Window: TypeAlias = Annotated[
    float | None,
    typer.Option(
        min=0, metavar="SECONDS", help="How long to watch the GPUs; if absent, as `idle` says. 0: one look."
    ),
]


@app.command()
def probe(
    servers: Servers = None,
    fleet: FleetFile = Path("fleet.yaml"),
    window: Window = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Ask servers what their GPUs are doing: idle, busy or reserved, and why."""
    from embedmill.cli.progress import reporting
    from embedmill.spec.loading import load_fleet_spec

    spec = load_fleet_spec(fleet)
    with reporting(quiet=quiet) as reporter:
        found = _look(spec, servers or (), window, reporter)
    if as_json:
        emit(found)
    else:
        from embedmill.cli.fleet_tables import problems_of, table_of

        data().print(table_of(found))
        for problem in problems_of(found):
            talk().print(problem, style="yellow", soft_wrap=True)
    if not any(each.state in {"ok", "no-gpu"} for each in found.servers):
        raise typer.Exit(1)


@app.command()
def watch(
    servers: Servers = None,
    fleet: FleetFile = Path("fleet.yaml"),
    window: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long each look takes.")] = 10.0,
    looks: Annotated[
        int | None, typer.Option(min=1, metavar="COUNT", help="End after so many looks.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON document a line, one a look.")
    ] = False,
) -> None:
    """Look again and again, until Ctrl-C: a table on a terminal, else lines."""
    import contextlib
    import itertools

    from embedmill.cli.fleet_tables import showing
    from embedmill.cli.progress import Silent
    from embedmill.spec.loading import load_fleet_spec

    spec = load_fleet_spec(fleet)
    with contextlib.suppress(KeyboardInterrupt), showing(data()) as show:
        for _ in itertools.count() if looks is None else range(looks):
            found = _look(spec, servers or (), window, Silent())
            if as_json:
                emit_bytes(json.dumps(found.to_json(), sort_keys=True, ensure_ascii=False).encode() + b"\n")
            else:
                show(found)


def _look(spec: FleetSpec, servers: Sequence[str], window_s: float | None, reporter: Reporter) -> FleetProbe:
    """Ask, and learn how much memory idle GPUs have in use."""
    from embedmill.fleet.asking import members, probe_fleet
    from embedmill.fleet.baselines import baselines_file, learnt, read_baselines, write_baselines
    from embedmill.types import Progress

    total, answered = len(members(spec, servers)), 0

    def count(_: object) -> None:
        nonlocal answered
        answered += 1
        reporter(Progress("ask", answered, total, "servers"))

    reporter(Progress("ask", 0, total, "servers"))
    known, damaged = read_baselines(baselines_file())
    found = probe_fleet(spec, servers, window_s=window_s, on_server=count, baseline_mib=known)
    more = learnt(known, [each.facts for each in found.servers if each.facts is not None])
    unkept = write_baselines(baselines_file(), more) if more != known else ""
    for words in filter(None, (damaged, unkept)):
        talk().print(words, style="yellow", soft_wrap=True)
    return found
