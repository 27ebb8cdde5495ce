"""What servers answered, as a table, or as lines where there is no terminal."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from embedmill.cli.failures import one_line
from embedmill.cli.output import duration, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
GIB = 1 << 30
Row = tuple[str, str, str, str, str, str]


def table_of(probe: FleetProbe) -> Table:
    """A row for each GPU, and one for each server that told of none."""
    from rich.text import Text

    rows = [(*row[:4], Text(row[4], STYLES.get(row[4], SILENT)), row[5]) for row in rows_of(probe)]
    made = table("server", "gpu", "type", "memory", "state", "reason", rows=rows, numbers=[1])
    for column in (made.columns[0], made.columns[3], made.columns[4]):
        column.no_wrap = True
    return made


def rows_of(probe: FleetProbe) -> Iterator[Row]:
    """Server, index, type, memory, state, reason."""
    for server in probe.servers:
        yield from map(_row, server.gpus)
        if not server.gpus:
            yield server.server, "", "", "", server.state, server.reason


def _row(gpu: GpuVerdict) -> Row:
    memory = f"{gpu.used_bytes / GIB:.1f}/{gpu.memory_bytes / GIB:.0f} GiB"
    reason = gpu.reason.removeprefix(f"{gpu.state}: ")
    return gpu.server, str(gpu.index), gpu.name, memory, gpu.state, reason


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
def showing(console: Console) -> Iterator[Callable[[FleetProbe], None]]:
    """Shows look after look: in place on a terminal, else in lines that begin with the time."""
    if not console.is_terminal:
        yield lambda probe: _print_lines(console, probe)
        return
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    def painted(probe: FleetProbe) -> RenderableType:
        return Group(table_of(probe), Text(f"\n{summary(probe)}; Ctrl-C ends this", "dim"))

    waiting = Text("asking…", "dim")
    with Live(waiting, console=console, auto_refresh=False, vertical_overflow="visible") as live:
        yield lambda probe: live.update(painted(probe), refresh=True)


def _print_lines(console: Console, probe: FleetProbe) -> None:
    for row in rows_of(probe):
        console.print(one_line("  ".join([probe.taken, *filter(None, row)])), soft_wrap=True)
