"""Single stages of a run, as schedulers call them: `worker`, `index`, `check`, `publish`."""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.importing import importing
from embedmill.cli.options import (
    Accept,
    AsJson,
    EnvironmentStdin,
    GpuMemory,
    Halvings,
    PipelineFile,
    RunName,
    open_pipeline,
    take_environment,
)
from embedmill.cli.output import data, emit, facts, table, talk
from embedmill.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import FrameType

    from rich.table import Table

    from embedmill.model.begun import Begun
    from embedmill.release.layout import Home
    from embedmill.spec.documents import Gates
    from embedmill.spec.quarantine import QuarantineReport
    from embedmill.spec.reports import ReleaseReport
    from embedmill.work import Opened, WorkDone, WorkerOptions

PANEL = "Single stages"
GATE_FAILED = 3
PLACES = ("host", "gpu", "image")


Parent = Annotated[int | None, typer.Option(metavar="PID", help="Stop when this process, the parent, ends.")]
Lanes = Annotated[
    int,
    typer.Option(min=1, help="Batches beside each other, on a CPU where the model's runtime can do that."),
]
Ahead = Annotated[
    str | None,
    typer.Option(
        hidden=True, metavar="JSON", help="For engines: open this model before stdin says what the run is."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for each in (index, check, publish, worker):
        app.command(rich_help_panel=PANEL)(each)


def worker(
    run: Annotated[str, typer.Option(metavar="URL", help="<store>/<pipeline>/runs/<run>, from `status`.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="This loop's name; no other may have it.")],
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, tpu.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads a batch.")] = 1,
    lanes: Lanes = 1,
    parent: Parent = None,
    watch_gpu: Annotated[
        list[str] | None,
        typer.Option(
            metavar="UUID", help="Give this GPU back within seconds when others come to it. Repeatable."
        ),
    ] = None,
    gpu_memory: GpuMemory = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=TEXT", help="What `status` tells of this loop: host, gpu or image. Repeatable."
        ),
    ] = None,
    progress: Annotated[
        bool, typer.Option("--progress", help="Print how far it is, a JSON object (`event/1`) a line.")
    ] = False,
    halvings: Halvings = 0,
    environment_stdin: EnvironmentStdin = False,
    ahead: Ahead = None,
    as_json: AsJson = False,
) -> None:
    """Work on a run until no shard is left: claim, embed, commit."""
    if environment_stdin:
        take_environment()
    signal.signal(signal.SIGINT, _as_sigterm)  # before threads begin: Ctrl-C means the same at any time
    with importing():
        begun = _begun(ahead, device, threads, lanes, gpu_memory) if ahead is not None else None
        from embedmill.work import Told, WorkerOptions, stand_by
    options = WorkerOptions(
        name,
        device,
        threads,
        lanes,
        parent,
        watch_gpus=_uuids(watch_gpu or []),
        gpu_memory_mib=gpu_memory,
        halvings=halvings,
        where=_where(where or []),
        listener=_print_line if progress else None,
    )
    told = Told(run) if ahead is None else stand_by(begun, options)
    if told is None:
        return
    done = _work(*_run_of(told.run_url), options, told.opened)
    if as_json:
        from embedmill.spec.reports import WorkReport

        emit(WorkReport(shards=done.shards, vectors=done.vectors, rejected=done.rejected))
    else:
        made = f"{counted(done.vectors, 'vector')} in {counted(done.shards, 'shard')}"
        print(f"worker {name}: {made}, {done.rejected:,} rejected", file=sys.stderr)


def _run_of(url: str) -> tuple[Home, str]:
    from embedmill.errors import SpecError
    from embedmill.release.layout import split_url

    try:
        return split_url(url, "runs")
    except ValueError as error:
        raise SpecError(f"--run {error}") from None


def _begun(ahead: str, device: str, threads: int, lanes: int, gpu_memory_mib: int | None) -> Begun | None:
    """Begin to open the model that an engine names, with no more imported than that takes."""
    import json

    from embedmill.model.begun import begin
    from embedmill.types import Opening

    opening = Opening(**json.loads(ahead))
    return begin(opening, device=device, threads=threads, lanes=lanes, gpu_memory_mib=gpu_memory_mib)


def _work(home: Home, run: str, options: WorkerOptions, opened: Opened | None) -> WorkDone:
    """Work; an error of a store whose credentials have ended meanwhile is their end.

    Raises:
        CredentialsExpired: It is.
    """
    from embedmill.errors import CredentialsExpired, StoreError
    from embedmill.work import work

    try:
        return work(home, run, options, opened)
    except StoreError as error:
        from embedmill.store.credentials import has_expired

        if has_expired() and not isinstance(error, CredentialsExpired):
            hint = "start a worker with new ones"
            raise CredentialsExpired(f"{options.worker}: the credentials have ended", hint=hint) from error
        raise


def _print_line(line: bytes) -> None:
    """To stdout at once; nobody may be listening any more."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


def _uuids(gpus: Sequence[str]) -> tuple[str, ...]:
    from embedmill.devices.locks import UUID
    from embedmill.errors import SpecError

    for gpu in gpus:
        if not UUID.fullmatch(gpu):
            raise SpecError(f"--watch-gpu {gpu}: is no UUID of a GPU", hint="`nvidia-smi -L` shows them")
    return tuple(gpus)


def _where(pairs: Sequence[str]) -> dict[str, str]:
    from embedmill.errors import SpecError

    found = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or key not in PLACES:
            raise SpecError(f"--where {pair}: expected KEY=TEXT, where KEY is one of {', '.join(PLACES)}")
        found[key] = text
    return found


def _as_sigterm(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signal API
    """Stop after the batch; a second Ctrl-C stops at once."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGTERM)


def index(pipeline: PipelineFile, run: RunName = None, as_json: AsJson = False) -> None:
    """Make a candidate of a worked run: join, compact, index."""
    content = open_pipeline(pipeline).open_run(run).index()
    if as_json:
        emit(content)
        return
    counts = ("embedded", "reused", "empty", "quarantined", "computed")
    rows = [("candidate", content.release), *((name, getattr(content, name)) for name in counts)]
    data().print(facts([*rows, ("content digest", content.content_digest)]))


def check(
    pipeline: PipelineFile,
    run: RunName = None,
    accept: Accept = None,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="List the items that it lacks, and run no gate.")
    ] = False,
    n: Annotated[int, typer.Option("-n", min=0, help="How many of them at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Run the gates on a candidate."""
    if quarantine:
        _list_quarantined(pipeline, run, n, as_json=as_json)
        return
    gates = open_pipeline(pipeline).open_run(run).check(accept or ())
    if as_json:
        emit(gates)
    else:
        data().print(verdicts(gates))
    if not gates.passed:
        raise typer.Exit(GATE_FAILED)


def _list_quarantined(pipeline: Path, run: str | None, n: int, *, as_json: bool) -> None:
    from embedmill.release.describe import describe_quarantine

    planned = open_pipeline(pipeline).open_run(run)
    report = describe_quarantine(planned.home, planned.plan.run, most=n)
    if as_json:
        emit(report)
        return
    data().print(facts([("candidate", report.run), ("made", report.created), ("items read", report.total)]))
    data().print()
    data().print(table("quarantined", "items", rows=report.quarantine.items(), numbers=[1]))
    data().print()
    print_quarantined(report)


def print_quarantined(report: ReleaseReport | QuarantineReport) -> None:
    """The first quarantined items as a table, and how many more there are."""
    rows = [
        (item.id, item.source if item.row is None else item.row, item.reason, item.detail)
        for item in report.quarantined
    ]
    data().print(table("id", "row", "reason", "detail", rows=rows))
    more = sum(report.quarantine.values()) - len(rows)
    if more > 0:
        talk().print(f"and {more:,} more; -n shows more of them", soft_wrap=True)


def verdicts(gates: Gates) -> Table:
    """All verdicts as a table."""
    from rich.text import Text

    words = {True: Text("pass", "green"), False: Text("FAIL", "bold red")}
    accepted = Text("accepted", "yellow")
    rows = [
        (verdict.gate, accepted if verdict.accepted else words[verdict.passed], verdict.message)
        for verdict in gates.verdicts
    ]
    return table("gate", "verdict", "found", rows=rows, whole=True)


def publish(pipeline: PipelineFile, run: RunName = None, as_json: AsJson = False) -> None:
    """Make a checked candidate the live release."""
    planned = open_pipeline(pipeline).open_run(run)
    entry = planned.publish()
    if as_json:
        emit(entry)
    else:
        url = f"{planned.home.url}/releases/{entry.release}"
        data().print(facts([("release", entry.release), ("number", entry.number), ("url", url)]))
