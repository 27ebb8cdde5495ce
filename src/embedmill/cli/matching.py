"""`fleet match`: which image would run on which GPU, and why the others would not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.failures import one_line
from embedmill.cli.fleets import FleetFile, ImagesFile, Servers, images_of
from embedmill.cli.options import AsJson
from embedmill.cli.output import data, emit, table, talk
from embedmill.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.text import Text

    from embedmill.fleet.proofs import Proofs
    from embedmill.model.package import ModelPackage
    from embedmill.spec.fleet_reports import FleetMatch, FleetProbe, GpuMatch

NOT_ALL = 3
"""Some GPU has no image, or there is no GPU at all."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(match)


def match(
    servers: Servers = None,
    fleet: FleetFile = Path("fleet.yaml"),
    images: ImagesFile = None,
    probe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help="What `fleet probe --json` printed; if absent, servers are asked."
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="A model package: only images with one of its runtimes, and its proofs."
        ),
    ] = None,
    proofs: Annotated[
        str | None, typer.Option(metavar="STORE", help="Where proofs of images are kept; needs --model.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show every rule that was tried, with its numbers.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Tell which image would run on each GPU, busy or not; ends with 3 if one has none."""
    from embedmill.fleet.matching import match_fleet

    package = _package(model)
    found = match_fleet(
        _probed(fleet, servers or (), probe),
        images_of(fleet, images),
        _proofs(proofs, package),
        model=package.package_digest() if package else "",
        runtimes=package.spec.kinds_for("item") if package else (),
    )
    if as_json:
        emit(found)
    else:
        _print(found, everything=everything)
    if not found.gpus or any(each.chosen is None for each in found.gpus):
        raise typer.Exit(NOT_ALL)


def _probed(fleet: Path, servers: Sequence[str], probe: Path | None) -> FleetProbe:
    """What the servers told, now or when the file was written; only of those that are named."""
    from embedmill.cli.fleets import _look
    from embedmill.spec.loading import load_fleet_spec

    if probe is None:
        return _look(load_fleet_spec(fleet), servers, 0.0)
    found = _read(probe)
    if not servers:
        return found
    try:
        named = load_fleet_spec(fleet).members(tuple(servers))
    except KeyError as error:
        raise SpecError(f"{fleet}: no server or pool {error.args[0]!r}") from None
    missing = [name for name in named if name not in {each.server for each in found.servers}]
    if missing:
        raise SpecError(f"--probe {probe}: says nothing of {', '.join(missing)}")
    return found.model_copy(update={"servers": tuple(each for each in found.servers if each.server in named)})


def _read(file: Path) -> FleetProbe:
    from embedmill.errors import StoreError
    from embedmill.spec.fleet_reports import FleetProbe

    try:
        return FleetProbe.from_bytes(file.read_bytes(), f"--probe {file}")
    except OSError as error:
        raise SpecError(f"--probe {file}: cannot be read: {(error.strerror or '').lower()}") from None
    except StoreError as error:
        raise SpecError(error.message, hint="`embedmill fleet probe --json` writes such a file") from None


def _package(model: Path | None) -> ModelPackage | None:
    from embedmill.model.package import ModelPackage

    return None if model is None else ModelPackage.open(model)


def _proofs(url: str | None, package: ModelPackage | None) -> Proofs | None:
    from embedmill.fleet.proofs import Proofs
    from embedmill.store import open_store

    if url is None:
        return None
    if package is None:
        raise SpecError("--proofs needs --model: a proof is one of a model")
    return Proofs(open_store(url))


def _print(found: FleetMatch, *, everything: bool) -> None:
    out = data()
    columns = ("server", "gpu", "type", "driver", "image", "rule", "why")
    if found.gpus:
        out.print(table(*columns, rows=map(_row, found.gpus), numbers=[1]))
    below = [("refused", "why", list(_refused(found.gpus)))]
    if everything:
        below.append(("image", "step", list(_steps(found.gpus))))
    for what, said, rows in below:
        if rows:
            out.print()
            out.print(table(what, "on", said, rows=[(*each, _whole(words)) for *each, words in rows]))
    for words in dict.fromkeys(_warnings(found.gpus)):
        talk().print(words, style="yellow", soft_wrap=True)
    for server, why in found.unanswered.items():
        talk().print(f"{server}: {why}", style="yellow", soft_wrap=True)


def _row(gpu: GpuMatch) -> tuple[object, ...]:
    from rich.text import Text

    from embedmill.spec.fleet_reports import place_of

    taken = gpu.verdict_of(gpu.chosen)
    place = (gpu.server, place_of(gpu), gpu.name, gpu.driver or "unknown")
    if taken is None:
        return (*place, Text("none", "bold red"), "", "see below")
    return (*place, taken.image, taken.rule, _whole(gpu.reason))


def _whole(words: str) -> Text:
    """However long it is: a reason that is cut is none."""
    from rich.text import Text

    return Text(one_line(words))


def _kind(gpu: GpuMatch) -> str:
    """What every rule reads of a GPU: equal ones come to equal verdicts."""
    return f"{gpu.name}, driver {gpu.driver or 'unknown'}"


def _refused(gpus: Sequence[GpuMatch]) -> Iterator[tuple[str, str, str]]:
    """Image, type of GPU and the reason; once for each type. What is not proven is none of these."""
    found = [
        (each.image, _kind(gpu), each.reason) for gpu in gpus for each in gpu.verdicts if not each.accepted
    ]
    found += [("", _kind(gpu), gpu.reason) for gpu in gpus if gpu.chosen is None and _runs(gpu)]
    yield from dict.fromkeys(found)


def _runs(gpu: GpuMatch) -> bool:
    return any(each.accepted for each in gpu.verdicts)


def _steps(gpus: Sequence[GpuMatch]) -> Iterator[tuple[str, str, str]]:
    found = [(each.image, _kind(gpu), step) for gpu in gpus for each in gpu.verdicts for step in each.steps]
    yield from dict.fromkeys(found)


def _warnings(gpus: Sequence[GpuMatch]) -> Iterator[str]:
    for gpu in gpus:
        taken = gpu.verdict_of(gpu.chosen)
        for words in taken.warnings if taken else ():
            yield f"{gpu.chosen} on {_kind(gpu)}: {words}"
