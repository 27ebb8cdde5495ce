"""`release pin`, `unpin`, `collect`, `copy`: what keeps a store in order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.options import AsJson, Note, OneRelease, PipelineFile, Quiet, command, open_pipeline
from embedmill.cli.output import data, duration, emit, facts, size, table, talk
from embedmill.words import counted

if TYPE_CHECKING:
    from embedmill.spec.upkeep import CollectReport, PinReport

UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def register(app: typer.Typer) -> None:
    """Add the commands to `release`."""
    for each in (pin, unpin, collect, copy):
        app.command()(each)


def pin(pipeline: PipelineFile, release: OneRelease, note: Note = "", as_json: AsJson = False) -> None:
    """Keep a release for ever: `release collect` never retires it."""
    from embedmill.release.admin import pin as keep

    _print_pin(keep(open_pipeline(pipeline).home, release, note=note), as_json)


def unpin(pipeline: PipelineFile, release: OneRelease, note: Note = "", as_json: AsJson = False) -> None:
    """Let a pinned release be retired when its time comes."""
    from embedmill.release.admin import unpin as let_go

    _print_pin(let_go(open_pipeline(pipeline).home, release, note=note), as_json)


def _print_pin(report: PinReport, as_json: bool) -> None:
    if as_json:
        emit(report)
        return
    state = "pinned" if report.pinned else "not pinned"
    if report.number is None:
        data().print(f"{report.release}: was {state} before; nothing to do", soft_wrap=True)
    else:
        now = state if report.pinned else "not pinned any more"
        data().print(f"{report.release}: {now} (log entry {report.number})", soft_wrap=True)


def collect(
    pipeline: PipelineFile,
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest releases stay.")] = 3,
    abandon_after: Annotated[
        str, typer.Option(metavar="AGE", help="Close open runs that did nothing for so long: 7d, 12h, 30m.")
    ] = "7d",
    yes: Annotated[bool, typer.Option("--yes/--dry-run", help="Do it, or only show it.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Retire old releases, close runs that nobody goes on with, and delete what nothing needs."""
    from embedmill.cli.progress import reporting
    from embedmill.release.collect import Policy
    from embedmill.release.collect import collect as tidy_up

    policy = Policy(keep=keep, abandon_after_s=_seconds("--abandon-after", abandon_after))
    with reporting(quiet=quiet) as reporter:
        report = tidy_up(open_pipeline(pipeline).home, policy, dry_run=not yes, on_progress=reporter)
    if as_json:
        emit(report)
        return
    _print_collected(report)
    if report.dry_run and (report.retired or report.abandoned or report.objects or report.unfinished_objects):
        options = ["--keep", str(keep)] * (keep != 3) + ["--abandon-after", abandon_after] * (
            abandon_after != "7d"
        )
        line = command("release collect", pipeline, *options, "--yes")
        if report.retired:
            say = "retired releases are deleted, and cannot be gone back to; `release pin` keeps one"
            talk().print(say, style="yellow", soft_wrap=True)
        talk().print(f"nothing was changed; this does it: {line}", style="yellow", soft_wrap=True)


def _seconds(option: str, age: str) -> float:
    """Seconds of an age such as `7d`.

    Raises:
        SpecError: It is none.
    """
    from embedmill.errors import SpecError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", age)
    if found is None:
        raise SpecError(f"{option} {age}: not an age", hint="a number and s, m, h or d, such as 7d")
    return float(found[1]) * UNIT_S[found[2]]


def _print_collected(report: CollectReport) -> None:
    """Releases, runs, and what is deleted: a table each, where there is something in it."""
    out = data()
    doing = {True: ("retire", "abandon", "delete"), False: ("retired", "abandoned", "deleted")}
    retire, abandon, delete = doing[report.dry_run]
    releases = [
        *((name.number, name.release, retire, "nothing keeps it") for name in report.retired),
        *(
            (each.number, each.release, "keep", "; ".join(each.why) or "could be retired")
            for each in report.kept
        ),
    ]
    out.print(table("number", "release", "", "why", rows=sorted(releases), numbers=[0]))
    runs = [
        *((each.run, abandon, each.why) for each in report.abandoned),
        *((each.run, "leave", each.why) for each in report.left),
    ]
    if runs:
        out.print()
        out.print(table("run", "", "why", rows=sorted(runs)))
    deleted = [
        (each.name, each.what, each.objects, size(each.size_bytes), each.why) for each in report.deleted
    ]
    if deleted:
        out.print()
        out.print(table(delete, "", "objects", "bytes", "why", rows=deleted, numbers=[2, 3]))
    out.print()
    sums: list[tuple[str, object]] = [(delete, _amount(report.objects, report.size_bytes))]
    if report.unfinished_objects:
        left = _amount(report.unfinished_objects, report.unfinished_bytes)
        sums.append((f"{delete} of unfinished writes", left))
    if report.unfinished_left:
        sums.append(("left of unfinished writes", report.unfinished_left))
    if report.postponed:
        sums.append(("retired later", report.postponed))
    out.print(facts(sums))


def _amount(objects: int, size_bytes: int) -> str:
    return f"{counted(objects, 'object')}, {size(size_bytes)}" if objects else "nothing"


def copy(
    pipeline: PipelineFile,
    release: OneRelease,
    to: Annotated[str, typer.Option(metavar="STORE", help="A folder or URL, as `store` in pipeline.yaml.")],
    publish: Annotated[
        bool, typer.Option("--publish", help="Make it live there: adds an entry to the log of that store.")
    ] = False,
    note: Note = "",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Copy a whole release to another store, every byte verified, or finish doing so."""
    from embedmill.cli.progress import reporting
    from embedmill.release.layout import Home
    from embedmill.release.transfer import copy_release
    from embedmill.store import open_store

    home = open_pipeline(pipeline).home
    target = Home(open_store(to, relative_to=Path.cwd()), home.pipeline)
    with reporting(quiet=quiet) as reporter:
        report = copy_release(home, release, target, into_log=publish, note=note, on_progress=reporter)
    if as_json:
        emit(report)
        return
    there = report.files - report.copied
    copied = f"{_amount(report.copied, report.copied_bytes)}, in {duration(report.seconds)}"
    rows: list[tuple[str, object]] = [
        ("release", report.release),
        ("lies in", report.url),
        ("copied", copied + (f"; {there:,} {'was' if there == 1 else 'were'} there before" if there else "")),
        ("verified", _amount(report.files, report.size_bytes)),
    ]
    if report.number is not None:
        rows.append(("published as", f"number {report.number}"))
    data().print(facts(rows))
