"""`deploy`: what other servers need to serve a release."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from embedmill.cli.options import AsJson, Target
from embedmill.cli.output import data, emit, table, talk
from embedmill.cli.searching import open_target

if TYPE_CHECKING:
    from embedmill.spec.deployed import DeployReport


class InstanceKind(StrEnum):
    """Where Triton computes."""

    CPU = "cpu"
    GPU = "gpu"


Repository: TypeAlias = Annotated[
    Path, typer.Option("--to", metavar="FOLDER", help="The model repository; made if absent.")
]
Number: TypeAlias = Annotated[
    int | None,
    typer.Option(min=1, help="The models' version; the release's number in its log where absent."),
]

app = typer.Typer(help="Lay out what servers need to serve a release.", no_args_is_help=True)


@app.command()
def triton(
    target: Target,
    to: Repository,
    number: Number = None,
    kind: Annotated[InstanceKind, typer.Option(help="Where Triton computes.")] = InstanceKind.CPU,
    instances: Annotated[
        int, typer.Option(min=1, help="Copies of each model; for each GPU with `--kind gpu`.")
    ] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each copy.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Lay out a model repository for Triton: a model for each encoder, its version the release's number."""
    from embedmill.deploy.triton import deploy_triton

    release = open_target(target)
    report = deploy_triton(release, to, number=number, kind=kind.value, instances=instances, threads=threads)
    _say(report, as_json)


@app.command("tf-serving")
def tf_serving(
    target: Target,
    to: Repository,
    number: Number = None,
    base_path: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Where the server sees FOLDER, such as /models."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lay out a model repository for TensorFlow Serving, of a model that has a SavedModel."""
    from embedmill.deploy.tf_serving import deploy_tf_serving

    _say(deploy_tf_serving(open_target(target), to, number=number, base_path=base_path), as_json)


def _say(report: DeployReport, as_json: bool) -> None:
    if as_json:
        emit(report)
        return
    rows = [(each.model, report.number, each.folder) for each in report.models]
    data().print(table("model", "version", "folder", rows=rows, numbers=[1]))
    talk().print(f"release {report.release} lies in {report.repository}", soft_wrap=True)
