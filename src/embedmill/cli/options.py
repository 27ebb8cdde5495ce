"""Arguments and options that several commands share."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from embedmill.cli.importing import importing

if TYPE_CHECKING:
    from embedmill.pipeline import Pipeline

PipelineFile: TypeAlias = Annotated[
    Path, typer.Argument(metavar="PIPELINE.yaml", help="The pipeline's spec.", show_default=False)
]
OnePipeline: TypeAlias = Annotated[
    Path | None, typer.Argument(metavar="[PIPELINE.yaml]", help="The pipeline's spec.", show_default=False)
]
Everything: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--all",
        metavar="DIR",
        help="Instead of one pipeline: every pipeline.yaml below this folder, or this file. Repeatable.",
    ),
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


def _acceptable(gates: list[str] | None) -> list[str] | None:
    """Refuse a name that is mistyped before hours of work, and not at their end."""
    if gates:
        with importing():
            from embedmill.gates import check_acceptable

        check_acceptable(gates, option="--accept")
    return gates


Accept: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        callback=_acceptable,
        metavar="GATE",
        help="Publish although this gate fails, and record that: churn, empty, quarantine or relevance. "
        "Repeatable.",
    ),
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Note: TypeAlias = Annotated[str, typer.Option(metavar="TEXT", help="Why, for the log.")]


EnvironmentStdin: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--environment-stdin",
        help="Read environment variables, such as the store's credentials, as one JSON object from stdin.",
    ),
]
GpuMemory: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="MIB", min=1, help="The most memory of a GPU to take, where the model's limit is not lower."
    ),
]
Halvings: TypeAlias = Annotated[
    int, typer.Option(min=0, help="Halve batches so often first, where memory was too short for larger ones.")
]
ENVIRONMENT_BYTES = 1 << 20


def take_environment() -> None:
    """Set the variables that stdin has, up to its end; what cannot be read is not repeated.

    Raises:
        SpecError: It is not one JSON object of texts.
    """
    from embedmill.errors import SpecError

    try:
        found = json.loads(sys.stdin.buffer.read(ENVIRONMENT_BYTES))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise SpecError("--environment-stdin: stdin is not one JSON object of texts")
    os.environ.update(found)


EngineName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAMES",
        help="local, ssh, kubernetes, ray or jenkins, instead of the spec's; several with commas between.",
    ),
]
FleetOfRun: TypeAlias = Annotated[
    Path | None,
    typer.Option("--fleet", metavar="FLEET.yaml", help="For engine ssh, instead of the spec's."),
]
Wait: TypeAlias = Annotated[
    bool, typer.Option("--wait", help="Where no GPU of the fleet is idle, wait for one.")
]
NoCalibrate: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--no-calibrate",
        help="For a new plan use the default batches and threads: measure nothing, and look up nothing that "
        "was measured. An open run keeps those of its plan.",
    ),
]


def open_pipeline(
    file: Path,
    *,
    engine: str | None = None,
    fleet: Path | None = None,
    wait: bool = False,
    seats: Path | None = None,
    calibrate: bool = True,
) -> Pipeline:
    """Read the spec, with another engine or fleet where they are given; imports what pipelines need only now.

    Raises:
        SpecError: The spec is wrong, or there is no such engine.
    """
    with importing():
        from embedmill.pipeline import Pipeline

    pipeline = Pipeline.from_file(file)
    given = {
        "engine": None if engine is None else engines_named(engine),
        "fleet": None if fleet is None else str(fleet.absolute()),
    }
    changed: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    if not calibrate:
        changed["work"] = pipeline.spec.work.model_copy(update={"calibrate": False})
    folder = None
    if seats is not None:
        from embedmill.seats import SeatFolder

        folder = SeatFolder(seats)
    return replace(pipeline, spec=pipeline.spec.model_copy(update=changed), waits=wait, seats=folder)


def engines_named(text: str) -> str | tuple[str, ...]:
    """One engine, or several with commas between, as a spec has them.

    Raises:
        SpecError: There is none of a name, or one is named twice.
    """
    from embedmill.errors import SpecError
    from embedmill.spec.pipeline import ENGINES

    names = tuple(text.split(","))
    for name in names:
        if name not in ENGINES:
            hint = f"allowed: {', '.join(ENGINES)}"
            raise SpecError(f"--engine {name}: there is none of that name", hint=hint)
    if len(set(names)) < len(names):
        raise SpecError(f"--engine {text}: names one twice")
    return names if len(names) > 1 else names[0]


def one_or_all(pipeline: Path | None, everything: list[Path] | None) -> Path | None:
    """The one pipeline that is meant, None for all.

    Raises:
        SpecError: Neither was given, or both were; or a folder, without saying that all in it are meant.
    """
    from embedmill.errors import SpecError

    if (pipeline is None) == (not everything):
        raise SpecError("give one PIPELINE.yaml, or --all DIR")
    if pipeline is not None and os.path.isdir(pipeline):  # noqa: PTH112 - no, where nobody may look
        hint = f"{shlex.join(['--all', str(pipeline)])} takes every pipeline.yaml below it"
        raise SpecError(f"{pipeline}: cannot be read: is a folder", hint=hint)
    return pipeline


def command(name: str, file: Path, *more: str) -> str:
    """A command line that a person may copy."""
    return shlex.join(["embedmill", *name.split(), str(file), *more])
