"""Arguments and options that several commands share."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from embedmill.pipeline import Pipeline

PipelineFile: TypeAlias = Annotated[
    Path, typer.Argument(metavar="PIPELINE.yaml", help="The pipeline's spec.", show_default=False)
]
Target: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="A release's folder or URL, or a pipeline.yaml: its live release.",
        show_default=False,
    ),
]
RunName: TypeAlias = Annotated[
    str | None,
    typer.Option("--run", metavar="NAME", help="A run by its name; the newest open one if absent."),
]
OneRelease: TypeAlias = Annotated[
    str, typer.Argument(metavar="RELEASE", help="By name or number.", show_default=False)
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Accept: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GATE",
        help="Publish although this gate fails, and record that: churn, empty, quarantine or relevance. "
        "Repeatable.",
    ),
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Note: TypeAlias = Annotated[str, typer.Option(metavar="TEXT", help="Why, for the log.")]


def open_pipeline(file: Path) -> Pipeline:
    """Read the spec; imports what pipelines need only now."""
    from embedmill.pipeline import Pipeline

    return Pipeline.from_file(file)


def command(name: str, file: Path, *more: str) -> str:
    """A command line that a person may copy."""
    return shlex.join(["embedmill", *name.split(), str(file), *more])
