"""`release …`: published releases, what is in them, what changed, which is live."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.options import AsJson, Note, OneRelease, PipelineFile, command, open_pipeline
from embedmill.cli.output import data, duration, emit, emit_bytes, facts, shown, size, table, talk
from embedmill.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from embedmill.release.diff import Example, ReleaseDiff
    from embedmill.release.reader import Release
    from embedmill.spec.documents import ReleaseName
    from embedmill.spec.reports import ReleaseReport
    from embedmill.spec.upkeep import ListedRelease

app = typer.Typer(
    help="Published releases: list, compare, roll back, pin, verify, copy, collect.", no_args_is_help=True
)

SHORT = 12
"""Digits of a digest that tell two apart."""

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="[RELEASE]", help="By name or number; the live one if absent.", show_default=False
    ),
]
Before = Annotated[
    str | None,
    typer.Argument(
        metavar="[BEFORE]",
        help="By name or number; the one that AFTER replaced if absent.",
        show_default=False,
    ),
]
After = Annotated[
    str | None,
    typer.Argument(metavar="[AFTER]", help="By name or number; the live one if absent.", show_default=False),
]


@app.command("ls")
def ls(pipeline: PipelineFile, as_json: AsJson = False) -> None:
    """List the published releases."""
    from embedmill.release.describe import list_releases
    from embedmill.release.log import read_history

    home = open_pipeline(pipeline).home
    found = list_releases(home)
    if as_json:
        listed = [release.model_dump(mode="json") for release in found]
        emit_bytes((json.dumps(listed, indent=2) + "\n").encode())
        return
    held = read_history(home).hold
    note = held.note if held else ""
    rows = [
        (
            release.number,
            release.release,
            "-" if release.items is None else release.items,
            release.created,
            _state(release, note),
        )
        for release in found
    ]
    data().print(table("number", "release", "items", "created", "", rows=rows, numbers=[0, 2]))


def _state(release: ListedRelease, note: str) -> str:
    """Such as `pinned, live`, and what is wrong; `note`: why it is on hold, as who did that put it."""
    states = {
        f"on hold ({note})" if note else "on hold": release.hold,
        "pinned": release.pinned,
        "live": release.live,
        release.trouble: bool(release.trouble),
    }
    return ", ".join(state for state, found in states.items() if found)


@app.command()
def show(
    pipeline: PipelineFile,
    release: Name = None,
    quarantine: Annotated[bool, typer.Option("--quarantine", help="List the quarantined items.")] = False,
    n: Annotated[int, typer.Option("-n", min=0, help="How many of them at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show what a release holds: items, gates, segments, digests, quarantine."""
    from embedmill.release.describe import describe_release, model_of

    home = open_pipeline(pipeline).home
    report = describe_release(home, release, quarantined=n)
    if as_json:
        emit(report)
    elif quarantine:
        from embedmill.cli.stages import print_quarantined

        print_quarantined(report)
    else:
        _print_release(report, model_of(home, report.release), pipeline)


def _print_release(report: ReleaseReport, model: str, pipeline: Path) -> None:
    from embedmill.cli.stages import verdicts

    out, base = data(), _name(report.base) if report.base else "nothing: a first release"
    state = "live" if report.live else "not live"
    out.print(
        facts(
            [
                ("release", f"{report.release} (number {report.number}), {state}"),
                ("created", report.created),
                ("on top of", base),
                ("model", model),
                ("items", _items(report)),
                ("vectors", f"{report.computed:,} computed by it, of {report.dimension} dimensions"),
                ("lies in", report.url),
            ]
        )
    )
    out.print()
    out.print(verdicts(report.gates))
    out.print()
    segments = [(segment.name, segment.rows, segment.live, segment.index) for segment in report.segments]
    out.print(table("segment", "vectors", "live", "search", rows=segments, numbers=[1, 2]))
    out.print()
    kinds = ("package", "encoder", "content", "manifest")
    out.print(
        table("digest of", "SHA-256", rows=[(kind, getattr(report, f"{kind}_digest")) for kind in kinds])
    )
    if report.quarantine:
        out.print()
        out.print(table("quarantined", "items", rows=report.quarantine.items(), numbers=[1]))
        name = str(report.number)
        out.print(f"\nSee them:  {command('release show', pipeline, name, '--quarantine')}", soft_wrap=True)


def _items(report: ReleaseReport) -> str:
    empty, kept = report.counts.empty, report.counts.kept
    return (
        f"{report.items:,}: {report.embedded:,} embedded, {report.reused:,} reused"
        + (f" ({kept:,} of these kept, not fetched)" if kept else "")
        + (f", {empty:,} empty" if empty else "")
        + (f"; {sum(report.quarantine.values()):,} quarantined" if report.quarantine else "")
    )


@app.command()
def diff(
    pipeline: PipelineFile,
    before: Before = None,
    after: After = None,
    n: Annotated[int, typer.Option("-n", min=0, help="How many examples of each kind.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Show which items were added, removed or changed between two releases."""
    from embedmill.release.describe import pair_to_compare
    from embedmill.release.diff import diff_releases
    from embedmill.release.reader import open_release

    home = open_pipeline(pipeline).home
    pair = pair_to_compare(home, before, after)
    old, new = (open_release(home, name.release) for name in pair)
    found = diff_releases(old, new, examples=n)
    if as_json:
        emit(found.report(*pair))
    else:
        _print_diff(found, *pair, models=(_model(old), _model(new)))


def _columns(found: ReleaseDiff) -> dict[str, list[str]]:
    """Display columns by what became of them; one of another type is among both the added and the removed."""
    added, removed = found.columns_added, found.columns_removed
    return {
        "added": [name for name in added if name not in removed],
        "removed": [name for name in removed if name not in added],
        "of another type, not compared": [name for name in removed if name in added],
    }


def _print_diff(found: ReleaseDiff, before: ReleaseName, after: ReleaseName, models: tuple[str, str]) -> None:
    out = data()
    out.print(facts([("before", _name(before)), ("after", _name(after))]))
    if not found.same_encoder:
        say = f"another model: {' → '.join(models)}: every vector is new, and inputs may be read otherwise"
        out.print(say, soft_wrap=True)
    for what, columns in _columns(found).items():
        if columns:
            out.print(f"display columns {what}: {', '.join(columns)}", soft_wrap=True)
    kinds = {
        "added": found.added,
        "removed": found.removed,
        "quarantined": found.quarantined,
        "input changed": found.input_changed,
        "display changed": found.display_changed,
    }
    rows = [*((kind, changes.count) for kind, changes in kinds.items()), ("unchanged", found.unchanged)]
    out.print()
    out.print(table("items", "", rows=rows, numbers=[1]))
    for kind, changes in kinds.items():
        if changes.examples:
            out.print()
            out.print(table(kind, "", rows=[(shown(one.id), _values(one)) for one in changes.examples]))
        if changes.examples and changes.count > len(changes.examples):
            out.print(f"and {changes.count - len(changes.examples):,} more", style="dim")


def _model(release: Release) -> str:
    """As its pipeline named it, and which one that was: a folder's model may have been replaced."""
    return f"{release.content.pipeline.model} (encoder {release.content.encoder_digest[:SHORT]})"


def _values(example: Example) -> str:
    """`title: lamp`, or `price: 3 → 4` where both releases have the item."""
    before, after = example.before, example.after
    if before is not None and after is not None:
        return ", ".join(f"{name}: {shown(before[name])} → {shown(after[name])}" for name in after)
    return ", ".join(f"{name}: {shown(value)}" for name, value in (after or before or {}).items())


@app.command()
def rollback(pipeline: PipelineFile, release: OneRelease, note: Note = "", as_json: AsJson = False) -> None:
    """Make an earlier release live again; runs then do not publish until `release unhold`."""
    from embedmill.release.admin import rollback as roll_back

    entry = roll_back(open_pipeline(pipeline).home, release, note=note)
    if as_json:
        emit(entry)
        return
    data().print(f"live again: {entry.release} (log entry {entry.number})", soft_wrap=True)
    say = f"runs build and check, but do not publish until: {command('release unhold', pipeline)}"
    talk().print(say, style="yellow", soft_wrap=True)


@app.command()
def unhold(pipeline: PipelineFile, note: Note = "", as_json: AsJson = False) -> None:
    """Let runs publish again after a rollback."""
    from embedmill.release.admin import unhold as lift
    from embedmill.spec.reports import UnholdReport

    entry = lift(open_pipeline(pipeline).home, note=note)
    if as_json:
        emit(UnholdReport(number=entry.number if entry else None))
    elif entry:
        data().print(f"the hold is lifted (log entry {entry.number}); the next run publishes", soft_wrap=True)
    else:
        data().print("no hold was set", soft_wrap=True)


@app.command()
def verify(pipeline: PipelineFile, release: Name = None, as_json: AsJson = False) -> None:
    """Hash every byte of a release again."""
    from embedmill.release.admin import verify as hash_again
    from embedmill.release.describe import find_release
    from embedmill.release.log import read_history
    from embedmill.spec.reports import VerifyReport

    home, started = open_pipeline(pipeline).home, time.monotonic()
    name = find_release(home, read_history(home), release)
    manifest = hash_again(home, name.release)
    report = VerifyReport(
        release=name.release,
        number=name.number,
        files=len(manifest.files),
        size_bytes=sum(entry.size_bytes for entry in manifest.files),
        seconds=round(time.monotonic() - started, 3),
    )
    if as_json:
        emit(report)
        return
    what = f"{counted(report.files, 'file')}, {size(report.size_bytes)}, in {duration(report.seconds)}"
    data().print(f"{_name(name)}: every byte is as published ({what})", soft_wrap=True)


def _name(name: ReleaseName) -> str:
    return f"{name.release} (number {name.number})"
