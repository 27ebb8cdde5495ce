"""`search` and `export`: what a release answers, and its vectors as files."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.options import AsJson, Target
from embedmill.cli.output import data, emit, shown, size, table, talk
from embedmill.errors import SpecError
from embedmill.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.release.reader import Release
    from embedmill.types import Hit, Vectors


class ListType(StrEnum):
    """How Parquet has vectors."""

    FIXED = "fixed"
    LIST = "list"


PANEL = "Using a release"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for each in (search, export):
        app.command(rich_help_panel=PANEL)(each)


def search(
    target: Target,
    text: Annotated[str | None, typer.Option(help="Find what is like this text.")] = None,
    item: Annotated[
        str | None, typer.Option(metavar="ID", help="Find what is like this item of the release.")
    ] = None,
    vector: Annotated[
        Path | None, typer.Option(metavar="FILE.npy", help="Find what is near this vector, float32[D].")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits.")] = 5,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page with the hits and their pictures.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the nearest items of a release."""
    queries = {"--text": text, "--item": item, "--vector": vector}
    given = [name for name, value in queries.items() if value is not None]
    if len(given) != 1:
        raise SpecError(
            f"found {' and '.join(given) or 'no query'}", hint="give one of --text, --item, --vector"
        )
    release = open_target(target)
    hits = release.search(text, item=item, vector=_read_vector(vector) if vector else None, k=k)
    if html is not None:
        _write_page(html, f"{given[0][2:]}: {queries[given[0]]}", release, hits)
    if as_json:
        _emit_hits(release, hits)
    else:
        _print_hits(hits)


def open_target(target: str) -> Release:
    """A release by its folder or URL, or the live one of a pipeline.yaml."""
    from embedmill.cli.options import open_pipeline
    from embedmill.release.reader import Release, open_live

    if target.endswith((".yaml", ".yml")) or Path(target).is_file():
        return open_live(open_pipeline(Path(target)).home)
    return Release.open(target)


def _read_vector(file: Path) -> Vectors:
    import numpy as np

    hint = "write it with numpy.save, float32 and one row"
    try:
        with np.errstate(over="ignore"):
            found = np.asarray(np.load(file, allow_pickle=False), dtype=np.float32)
    except (OSError, ValueError, TypeError) as error:
        said = (
            error.strerror if isinstance(error, OSError) and error.strerror else "not an .npy file of numbers"
        )
        raise SpecError(f"{file}: {said}", hint=hint) from error
    if found.ndim == 0 or found.shape[:-1] not in {(), (1,)}:
        raise SpecError(f"{file}: an array of shape {found.shape}, and a query is one row", hint=hint)
    if not np.isfinite(found).all():
        raise SpecError(f"{file}: has a value that is not finite in float32", hint=hint)
    return found.reshape(-1)


def _emit_hits(release: Release, hits: Sequence[Hit]) -> None:
    from embedmill.spec.reports import SearchReport, jsonable

    found = tuple(jsonable({"id": hit.id, "score": hit.score, **hit.fields}) for hit in hits)
    emit(SearchReport(release=release.name, number=release.number, hits=found))


def _print_hits(hits: Sequence[Hit]) -> None:
    if not hits:
        talk().print("no hits: the release has no vectors")
        return
    names = list(hits[0].fields)
    rows = [(f"{hit.score:.4f}", *map(shown, (hit.id, *hit.fields.values()))) for hit in hits]
    data().print(table("score", "id", *names, rows=rows, numbers=[0]))


def _write_page(file: Path, query: str, release: Release, hits: Sequence[Hit]) -> None:
    from embedmill.cli.pages import hits_page

    kept = any(segment.thumbnails for segment in release.content.segments)
    pictures = [release.thumbnail(hit.id) for hit in hits] if kept else ()
    file.write_bytes(hits_page(query, release.name, release.number, hits, pictures))
    talk().print(f"wrote {file}, {size(file.stat().st_size)}", soft_wrap=True)


def export(
    target: Target,
    to: Annotated[
        Path,
        typer.Option(metavar="FILE|FOLDER", help="FILE.parquet, FILE.npy, or a folder for Parquet parts."),
    ],
    list_type: Annotated[
        ListType,
        typer.Option(help="Type of the vector column: `list` is for readers without fixed-size lists."),
    ] = ListType.FIXED,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a release's ids, display columns and vectors to files."""
    from embedmill.release.export import export_release
    from embedmill.spec.reports import ExportReport

    release = open_target(target)
    made = export_release(release, to, fixed_size=list_type is ListType.FIXED, force=force)
    report = ExportReport(
        release=release.name,
        files=tuple(map(str, made.files)),
        items=made.items,
        without_vector=made.without_vector,
        dimension=release.content.dimension,
        size_bytes=made.size_bytes,
    )
    if as_json:
        emit(report)
        return
    data().print(
        table("file", "size", rows=[(file, size(file.stat().st_size)) for file in made.files], numbers=[1])
    )
    have = "has" if made.without_vector == 1 else "have"
    left_out = f"; {made.without_vector:,} with an empty input {have} none" if made.without_vector else ""
    talk().print(
        f"{counted(made.items, 'item')} with vectors of {counted(report.dimension, 'dimension')}{left_out}",
        soft_wrap=True,
    )
