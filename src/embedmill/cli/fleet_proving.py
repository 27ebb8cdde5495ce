"""`fleet prove`: what your GPU server and an image really do, as a table, JSON and a page."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.failures import one_line
from embedmill.cli.fleets import FleetFile, ImagesFile, images_of
from embedmill.cli.options import AsJson, PipelineFile, Quiet, open_pipeline
from embedmill.cli.output import data, emit, size, table, talk
from embedmill.errors import ReleaseMissing

if TYPE_CHECKING:
    from embedmill.fleet.container import Room
    from embedmill.fleet.kit import Kit
    from embedmill.fleet.proving import Question
    from embedmill.pipeline import Pipeline
    from embedmill.spec.fleet import FleetSpec
    from embedmill.spec.fleet_reports import ImageProof, ProveReport
    from embedmill.spec.images import ImagesSpec

FAILED = 3


def register(app: typer.Typer) -> None:
    """Add the command to the group `fleet`."""
    app.command()(prove)


def prove(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="A server of fleet.yaml.")],
    pipeline: PipelineFile,
    fleet: FleetFile = Path("fleet.yaml"),
    images: ImagesFile = None,
    gpu: Annotated[
        int | None,
        typer.Option(metavar="INDEX", min=0, help="The GPU to take; the first idle one if absent."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads a batch.")] = 1,
    seconds: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.0, help="How long each encoder embeds, for its speed.")
    ] = 30.0,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write the findings as a page.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Try a server for real: probe, match, container, the live release's vectors, speed, yield."""
    from embedmill.spec.loading import load_fleet_spec

    spec = load_fleet_spec(fleet)
    opened = open_pipeline(pipeline)
    kit = _kit(opened, spec, images_of(fleet, images), server, gpu, threads, seconds)
    if not quiet:
        kit.on_step = lambda step: talk().print(f"{server}: {step}", soft_wrap=True)
    report = kit.run()
    if kit.proof is not None:
        _remember(opened, kit.proof)
    if html is not None:
        html.write_bytes(prove_page(report))
    if as_json:
        emit(report)
    else:
        _print(report)
    if not report.passed:
        raise typer.Exit(FAILED)


def _kit(
    pipeline: Pipeline,
    spec: FleetSpec,
    images: ImagesSpec,
    server: str,
    index: int | None,
    threads: int,
    seconds: float,
) -> Kit:
    from embedmill.fleet.asking import ask_server, only_server
    from embedmill.fleet.borrowing import reachable_from
    from embedmill.fleet.kit import Kit
    from embedmill.fleet.reaching import host_of

    name = only_server(spec, server)
    reachable_from(pipeline.home.store.url, spec, [name])
    return Kit(
        host=host_of(name, spec.servers[name]),
        fleet=spec,
        images=images,
        question=question_of(pipeline, seconds),
        ask=lambda: ask_server(spec, name),
        index=index,
        room=room_for(pipeline, threads),
    )


def room_for(pipeline: Pipeline, threads: int) -> Room:
    """What a container may use; it has no network where the store is a folder."""
    from embedmill.fleet.borrowing import LOCAL_SCHEMES
    from embedmill.fleet.container import Room

    scheme, there, _ = pipeline.home.store.url.partition("://")
    return Room(threads=threads, offline=not there or scheme in LOCAL_SCHEMES)


def question_of(pipeline: Pipeline, seconds: float) -> Question:
    """What is embedded: the goldens of the live release.

    Raises:
        ReleaseMissing: There is none yet.
        SpecError: Nothing that workers elsewhere could open the store with may be lent.
    """
    from embedmill.fleet.borrowing import lending_of
    from embedmill.fleet.proving import Question
    from embedmill.model import ModelPackage
    from embedmill.store.credentials import lent_environment

    live = pipeline.live()
    if live is None:
        raise ReleaseMissing(
            f"{pipeline.home.url}: nothing is published yet, so there are no vectors to compare with",
            hint="`embedmill run` on this machine first: the catalog may be a small one",
        )
    lending = lending_of(pipeline.spec)
    package = ModelPackage.open(live.model_folder)
    return Question(
        release=f"{pipeline.home.url}/releases/{live.name}",
        model=package.package_digest(),
        runtimes=package.spec.kinds_for("item"),
        secrets=lent_environment(pipeline.home.store.url, pipeline.spec.name, lending),
        seconds=seconds,
    )


def _remember(pipeline: Pipeline, proof: ImageProof) -> None:
    """In the place of an older proof, for what is known now counts."""
    from embedmill.fleet.proofs import Proofs

    proofs = Proofs(pipeline.home.store)
    proofs.forget(proof.key)
    proofs.keep(proof)


def _print(report: ProveReport) -> None:
    from rich.text import Text

    words = {
        "passed": Text("passed", "green"),
        "failed": Text("FAILED", "bold red"),
        "skipped": Text("skipped", "yellow"),
    }
    rows = [
        (step.step, words[step.state], f"{step.seconds:.1f} s", step.found, _figures(step.figures))
        for step in report.steps
    ]
    data().print(table("step", "verdict", "time", "found", "figures", rows=rows, numbers=(2,)))


def _figures(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in figures.items())


def prove_page(report: ProveReport) -> bytes:
    """One self-contained page, without scripts: to be kept, or sent to whoever asks what ran where."""
    from embedmill.release.report import page
    from embedmill.release.report import table as html_table

    facts = report.facts
    known = [("Server", report.server), ("Taken", report.taken), ("Embedmill", report.embedmill)]
    if facts is not None:
        known += [
            ("Driver", f"{facts.driver} (CUDA {'.'.join(map(str, facts.cuda or ('unknown',)))})"),
            ("Kernel", f"{facts.kernel} {facts.machine}"),
            ("Containers", ", ".join(f"{tool.name} {tool.version}" for tool in facts.tools) or "none"),
        ]
        known += [
            (f"GPU {gpu.index}", f"{gpu.name}, {size(gpu.memory_bytes)}, {gpu.uuid}") for gpu in facts.gpus
        ]
    verdict = "passed" if report.passed else "failed"
    body = [
        f"<h1>{escape(f'{report.server}: {verdict}')}</h1>",
        html_table(("", ""), [(name, f"<code>{escape(one_line(value))}</code>") for name, value in known]),
        "<h2>Steps</h2>",
        html_table(
            ("step", "verdict", "seconds", "found", "figures"),
            [
                (
                    escape(step.step),
                    f"<span class='{'pass' if step.state == 'passed' else 'fail'}'>{step.state}</span>",
                    f"{step.seconds:.1f}",
                    escape(one_line(step.found)),
                    escape(_figures(step.figures)),
                )
                for step in report.steps
            ],
        ),
    ]
    return page(f"Embedmill: prove {report.server}", body)
