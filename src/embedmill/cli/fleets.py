"""`fleet …`: what the GPUs of your servers are doing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from embedmill.cli.options import AsJson, Quiet
from embedmill.cli.output import data, emit, emit_bytes, talk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedmill.spec.fleet import FleetSpec
    from embedmill.spec.fleet_reports import FleetProbe, ServerProbe
    from embedmill.spec.images import ImagesSpec

app = typer.Typer(help="GPU servers: what they do, and what lacks on them.", no_args_is_help=True)

FleetFile: TypeAlias = Annotated[
    Path, typer.Option("--fleet", metavar="FLEET.yaml", help="The servers and how they are reached.")
]
ImagesFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--images", metavar="IMAGES.yaml", help="The images; what fleet.yaml names if absent."),
]
Servers: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SERVER...]", help="Names of servers or pools; all of them if absent."),
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
    from embedmill.cli.fleet_tables import waiting_for
    from embedmill.fleet.asking import members
    from embedmill.spec.loading import load_fleet_spec

    spec = load_fleet_spec(fleet)
    window_s = spec.idle.window_s if window is None else window
    with waiting_for(members(spec, servers or ()), window_s, quiet=quiet) as answered:
        found = _look(spec, servers or (), window_s, answered)
    if as_json:
        emit(found)
    else:
        from embedmill.cli.fleet_tables import problems_of, table_of

        out = data()
        out.print(table_of(found, out.width))
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
    from embedmill.spec.loading import load_fleet_spec

    spec = load_fleet_spec(fleet)
    with contextlib.suppress(KeyboardInterrupt), showing(data()) as show:
        for _ in itertools.count() if looks is None else range(looks):
            found = _look(spec, servers or (), window)
            if as_json:
                emit_bytes(json.dumps(found.to_json(), sort_keys=True, ensure_ascii=False).encode() + b"\n")
            else:
                show(found)


@app.command()
def doctor(
    server: Annotated[
        str, typer.Argument(metavar="SERVER", help="The name of a server.", show_default=False)
    ],
    fleet: FleetFile = Path("fleet.yaml"),
    as_json: AsJson = False,
) -> None:
    """Say what a server lacks for being lent work, and what mends it."""
    from embedmill.cli.diagnosis import print_findings
    from embedmill.fleet.asking import only_server
    from embedmill.fleet.doctoring import examine
    from embedmill.spec.loading import load_fleet_spec

    spec = load_fleet_spec(fleet)
    name = only_server(spec, server)
    report = examine(spec, name)
    if as_json:
        emit(report)
    else:
        print_findings(report.findings)
    if not report.ok:
        raise typer.Exit(1)


def images_of(fleet: Path, images: Path | None) -> ImagesSpec:
    """The images that are asked for, or those that fleet.yaml names.

    Raises:
        SpecError: There are none, or they are wrong.
    """
    from embedmill.spec.loading import load_fleet_spec, load_images_of, load_images_spec

    return load_images_of(load_fleet_spec(fleet), fleet) if images is None else load_images_spec(images)


def _look(
    spec: FleetSpec,
    servers: Sequence[str],
    window_s: float,
    on_server: Callable[[ServerProbe], None] | None = None,
) -> FleetProbe:
    """Ask, and learn how much memory idle GPUs have in use."""
    from embedmill.fleet.asking import probe_fleet
    from embedmill.fleet.baselines import baselines_file, learnt, read_baselines, write_baselines

    known, damaged = read_baselines(baselines_file())
    found = probe_fleet(spec, servers, window_s=window_s, on_server=on_server, baseline_mib=known)
    more = learnt(known, [each.facts for each in found.servers if each.facts is not None])
    unkept = write_baselines(baselines_file(), more) if more != known else ""
    for words in filter(None, (damaged, unkept)):
        talk().print(words, style="yellow", soft_wrap=True)
    return found
