"""`images prove`: may a new image take an old one's place, on which types of GPU?"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.fleet_proving import question_of, room_for
from embedmill.cli.fleets import FleetFile, ImagesFile, Servers, images_of
from embedmill.cli.options import AsJson, PipelineFile, Quiet, open_pipeline
from embedmill.cli.output import data, emit, table, talk

if TYPE_CHECKING:
    from embedmill.fleet.proofs import Tried
    from embedmill.spec.fleet_reports import ImagesProof, ImageTried

FAILED = 3


def register(app: typer.Typer) -> None:
    """Add the command to the group `images`."""
    app.command()(prove)


def prove(
    pipeline: PipelineFile,
    servers: Servers = None,
    fleet: FleetFile = Path("fleet.yaml"),
    images: ImagesFile = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads a batch.")] = 1,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Embed the live release's goldens in images that replace others, on one GPU of every type."""
    from embedmill.fleet.asking import probe_fleet
    from embedmill.fleet.matching import match_fleet
    from embedmill.fleet.proofs import Proofs, prove_missing
    from embedmill.fleet.proving import Prover
    from embedmill.spec.fleet_reports import ImagesProof
    from embedmill.spec.loading import load_fleet_spec

    spec, opened = load_fleet_spec(fleet), open_pipeline(pipeline)
    declared, question = images_of(fleet, images), question_of(opened, seconds=0.0)
    if not quiet:
        talk().print(f"watching the GPUs for {spec.idle.window_s:.0f} s", soft_wrap=True)
    probe = probe_fleet(spec, servers or ())
    proofs = Proofs(opened.home.store)
    matched = partial(match_fleet, probe, declared, proofs, model=question.model, runtimes=question.runtimes)
    prover = Prover(spec, declared, probe, question, room_for(opened, threads))
    tried: list[Tried] = []
    for each in prove_missing(matched(), declared, proofs, question.model, prover):
        tried.append(each)
        if not quiet:
            talk().print(f"{each.image} on {each.key.gpu}: {each.said}", soft_wrap=True)
    report = ImagesProof(tried=tuple(map(_told, tried)), match=matched())
    emit(report) if as_json else _print(report)
    if any(not each.passed for each in report.tried):
        raise typer.Exit(FAILED)


def _told(tried: Tried) -> ImageTried:
    from embedmill.spec.fleet_reports import ImageTried

    passed = None if tried.proof is None else tried.proof.passed
    return ImageTried(image=tried.image, key=tried.key, passed=passed, said=tried.said)


def _print(report: ImagesProof) -> None:
    from embedmill.spec.fleet_reports import place_of

    gpus = report.match.gpus
    rows = [(gpu.server, place_of(gpu), gpu.name, gpu.chosen or "none", gpu.reason) for gpu in gpus]
    data().print(table("server", "gpu", "type", "image", "why", rows=rows, numbers=(1,)))
