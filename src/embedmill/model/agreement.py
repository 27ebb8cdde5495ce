"""Whether a package's weights make the vectors of its own goldens: those of a half-copied update do not."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from embedmill.errors import EmbedmillError, ModelError
from embedmill.model.encoder import Encoder
from embedmill.model.goldens import LOWEST_COSINE, compared, fitting_goldens, goldens_file
from embedmill.model.package import ModelPackage


@dataclass(frozen=True)
class Agreement:
    """What comparing found of one encoder: the lowest cosine, where it could be compared.

    `wrong` says what is wrong with it, empty if nothing is; `unknown` why it was not compared, although there
    may be goldens to compare: another machine could, or this one at another time.
    """

    encoder: str
    lowest: float | None = None
    wrong: str = ""
    unknown: str = ""


def agreements(package: ModelPackage, opened: Mapping[str, Encoder] | None = None) -> list[Agreement]:
    """Embed the package's goldens by each encoder again, with the runtime that computes on this CPU.

    One without goldens has nothing to agree with. `opened` are encoders of the package that need not be
    opened again; a model that computes several encoders is opened once.
    """
    with ExitStack() as stack:
        known = dict(opened or {})
        return [_agreement(package, name, known, stack) for name in package.spec.encoders]


def check_agreement(package: ModelPackage, opened: Mapping[str, Encoder] | None = None) -> None:
    """Compare every encoder that this machine can compute.

    Raises:
        ModelError: The weights of one are not those that its goldens were made with.
    """
    wrong = said_wrong(agreements(package, opened))
    if wrong:
        raise ModelError(
            f"{package.root}: the model package contradicts its own goldens: {wrong}",
            hint=f"`embedmill model check {package.root}` compares them; copy or import it anew, whole",
        )


def said_wrong(found: list[Agreement]) -> str:
    """What is wrong with each encoder, in words; empty where nothing is."""
    return "; ".join(f"encoder {each.encoder}: {each.wrong}" for each in found if each.wrong)


def _agreement(package: ModelPackage, name: str, known: dict[str, Encoder], stack: ExitStack) -> Agreement:
    file = goldens_file(package, name)
    if not file.is_file():
        return Agreement(name)
    try:
        rows, stored = fitting_goldens(file, package.spec.dimension)
    except ModelError as error:
        return Agreement(name, wrong=error.message)
    try:
        comparison = compared(_opened(package, name, known, stack), file, rows, stored)
    except EmbedmillError as error:  # memory, a server, a library: that says nothing of the weights
        return Agreement(name, unknown=error.message)
    wrong = ""
    if comparison.moved is not None:
        wrong = (
            f"{comparison.moved_count} of {len(comparison.cosines_N)} goldens moved, the lowest cosine is "
            f"{comparison.lowest:.6f}, below {LOWEST_COSINE} ({comparison.runtime})"
        )
    return Agreement(name, lowest=comparison.lowest, wrong=wrong)


def _opened(package: ModelPackage, name: str, known: dict[str, Encoder], stack: ExitStack) -> Encoder:
    """The encoder; a model that is open is not opened again for another encoder of it."""
    runtimes = package.spec.runtimes_for(name)
    alike = next(
        (each for other, each in known.items() if package.spec.runtimes_for(other) == runtimes), None
    )
    if alike is not None:
        return alike if alike.name == name else alike.as_encoder(name)
    known[name] = stack.enter_context(Encoder.load(package, name, compared=False))
    return known[name]
