"""What servers answered, as a table, or as lines where there is no terminal."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from embedmill.cli.failures import one_line
from embedmill.cli.output import duration, table, talk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console, RenderableType
    from rich.table import Table

    from embedmill.spec.fleet_reports import FleetProbe, GpuVerdict, ServerProbe

STYLES = {
    "idle": "bold green",
    "busy": "yellow",
    "reserved": "blue",
    "unhealthy": "bold red",
    "unknown": "magenta",
    "unfit": "dim",
    "no-gpu": "dim",
}
SILENT = "red"
ROOMY = 120
"""Columns from which on a reason has room beside its state."""
GIB = 1 << 30
MOST_NAMED = 4
Row = tuple[str, str, str, str, str, str]


def table_of(probe: FleetProbe, width: int) -> Table:
    """A row for each GPU, and for each server that told of none; if narrow, a reason follows its state."""
    from rich.text import Text

    narrow = width < ROOMY
    columns = ("server", "gpu", "type", "memory", *(("verdict",) if narrow else ("state", "reason")))
    rows: list[Sequence[object]] = []
    for *gpu, state, reason in rows_of(probe):
        styled = Text(state, STYLES.get(state, SILENT))
        if narrow:
            gpu[2] = gpu[2].removeprefix("NVIDIA ")
            rows.append((*gpu, Text.assemble(styled, f": {one_line(reason)}")))
        else:
            rows.append((*gpu, styled, reason))
    made = table(*columns, rows=rows, numbers=[1])
    for column in made.columns[3 : len(columns) - 1]:
        column.no_wrap = True
    return made


def rows_of(probe: FleetProbe) -> Iterator[Row]:
    """Server, index, type, memory, state, reason."""
    for server in probe.servers:
        yield from map(_row, server.gpus)
        if not server.gpus:
            yield server.server, "", "", "", server.state, server.reason


def _row(gpu: GpuVerdict) -> Row:
    from embedmill.spec.fleet_reports import place_of

    memory = f"{gpu.used_bytes / GIB:.1f}/{gpu.memory_bytes / GIB:.0f} GiB"
    reason = gpu.reason.removeprefix(f"{gpu.state}: ")
    return gpu.server, place_of(gpu), gpu.name, memory, gpu.state, reason


def problems_of(probe: FleetProbe) -> list[str]:
    """What servers could not learn, each once, with the servers."""
    servers: dict[str, list[str]] = {}
    for server in probe.servers:
        for problem in server.facts.problems if server.facts else ():
            if problem != server.reason:
                servers.setdefault(problem, []).append(server.server)
    return [one_line(f"{', '.join(names)}: {problem}") for problem, names in servers.items()]


def summary(probe: FleetProbe) -> str:
    """One line on a look."""
    verdicts = [gpu for server in probe.servers for gpu in server.gpus]
    idle = sum(gpu.state == "idle" for gpu in verdicts)
    answered = sum(_answered(server) for server in probe.servers)
    return (
        f"{probe.taken}: {idle} of {len(verdicts)} GPUs idle, {answered} of {len(probe.servers)} servers "
        f"answered, in {duration(probe.seconds)}"
    )


def _answered(server: ServerProbe) -> bool:
    return server.state in {"ok", "no-gpu"}


@contextlib.contextmanager
def waiting_for(
    names: Sequence[str], window_s: float, *, quiet: bool
) -> Iterator[Callable[[ServerProbe], None]]:
    """Says on stderr which servers have not answered yet; a single line where that is no terminal."""
    console = talk()
    watched = f", watching for {duration(window_s)}" if window_s else ""
    asking = f"asking {len(names)} server{'' if len(names) == 1 else 's'}{watched}"
    if quiet or not console.is_terminal:
        if not quiet:
            console.print(asking, soft_wrap=True)
        yield lambda _: None
        return
    left = dict.fromkeys(names)
    with console.status(asking) as status:

        def hear(server: ServerProbe) -> None:
            left.pop(server.server)
            some = ", ".join(list(left)[:MOST_NAMED]) + (", …" if len(left) > MOST_NAMED else "")
            some = some or "nobody"
            status.update(f"{asking}: {len(names) - len(left)} answered, waiting for {some}")

        yield hear


@contextlib.contextmanager
def showing(console: Console) -> Iterator[Callable[[FleetProbe], None]]:
    """Shows look after look: in place on a terminal, else in lines that begin with the time."""
    if not console.is_terminal:
        yield lambda probe: _print_lines(console, probe)
        return
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    def painted(probe: FleetProbe) -> RenderableType:
        return Group(table_of(probe, console.width), Text(f"\n{summary(probe)}; Ctrl-C ends this", "dim"))

    waiting = Text("asking…", "dim")
    with Live(waiting, console=console, auto_refresh=False, vertical_overflow="visible") as live:
        yield lambda probe: live.update(painted(probe), refresh=True)


def _print_lines(console: Console, probe: FleetProbe) -> None:
    for row in rows_of(probe):
        console.print(one_line("  ".join([probe.taken, *filter(None, row)])), soft_wrap=True)
