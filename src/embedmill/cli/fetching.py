"""`fetch`: one release in a folder, which a server then needs nothing else than."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.options import AsJson, Quiet, command, open_pipeline
from embedmill.cli.output import data, duration, emit, size, talk
from embedmill.cli.searching import PANEL
from embedmill.errors import SpecError

if TYPE_CHECKING:
    from embedmill.release.source import Source

SourceTarget = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="A release's URL or folder, a pipeline.yaml, or <store>/<pipeline>.",
        show_default=False,
    ),
]
ReleaseOption = Annotated[
    str | None,
    typer.Option(
        "--release", metavar="RELEASE", help="Of a pipeline: by number or name, or `live`, as if absent."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PANEL)(fetch)


def fetch(
    target: SourceTarget,
    to: Annotated[
        Path, typer.Option("--to", metavar="FOLDER", help="Empty, or what an earlier fetch left there.")
    ],
    release: ReleaseOption = None,
    manifest: Annotated[
        str | None,
        typer.Option(metavar="SHA256", help="Refuse a release whose manifest has another digest."),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Copy one release into a folder, every byte verified, or finish doing so."""
    from embedmill.cli.progress import reporting
    from embedmill.release.fetch import fetch_release

    if manifest is not None and not re.fullmatch(r"[0-9a-f]{64}", manifest):
        raise SpecError(
            f"--manifest {manifest!r}: is no SHA-256",
            hint="it has 64 digits of 0-9 and a-f, as `embedmill release show` prints them",
        )
    source = find_source(target, release)
    if manifest is not None:
        source.check_manifest(manifest)
    with reporting(quiet=quiet) as reporter:
        report = fetch_release(source, to, on_progress=reporter)
    if as_json:
        emit(report)
        return
    number = "" if report.number is None else f" (number {report.number})"
    came = f"{size(report.fetched_bytes)} came" if report.fetched_bytes else "all of it was there"
    data().print(
        f"{report.folder}: release {report.release}{number}, {size(report.size_bytes)}; {came} "
        f"in {duration(report.seconds)}",
        soft_wrap=True,
    )
    talk().print(f"serve it: {command('serve', to)}", soft_wrap=True)


def find_source(target: str, release: str | None) -> Source:
    """The release that TARGET and `--release` name."""
    from embedmill.release.source import LIVE, source_at, source_in

    if target.endswith((".yaml", ".yml")):
        return source_in(open_pipeline(Path(target)).home, release or LIVE)
    return source_at(target, release)
