"""Whether what is installed here makes the vectors that a plan or release has: by its name, or by goldens.

A stack that is known is trusted. Another one embeds goldens again: within tolerance its vectors may stand
beside the others, and beyond it they may not.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedmill.errors import NumericsMoved, ObjectMissing
from embedmill.model.goldens import LOWEST_COSINE, cosines
from embedmill.release.layout import CONTENT, Home
from embedmill.release.log import read_history
from embedmill.spec.documents import Content, distinct
from embedmill.store import join_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from embedmill.model import Encoder
    from embedmill.release.reader import Release
    from embedmill.spec.documents import FileEntry, Numerics, Plan, Stack


@dataclass(frozen=True)
class Comparison:
    """What goldens say of a stack. `changes`: how it differs from the known ones, empty if it is one.

    `lowest` is the lowest cosine between a golden's vector and the one that is made now; None: not compared.
    """

    changes: str = ""
    lowest: float | None = None

    @property
    def moved(self) -> bool:
        """Whether vectors may not stand beside those that are there; NaN moved, too."""
        return self.lowest is not None and not self.lowest >= LOWEST_COSINE

    def __str__(self) -> str:
        if self.lowest is None:
            return f"{self.changes}: there are no goldens to compare"
        how = f"moved, lowest cosine {self.lowest:.6f}, below {LOWEST_COSINE}"
        return f"{self.changes}: goldens {how if self.moved else f'stay, lowest cosine {self.lowest:.6f}'}"


def compare(encoder: Encoder, stacks: Sequence[Stack], goldens: Callable[[], pa.Table | None]) -> Comparison:
    """Compare what this encoder makes with what these stacks made; a known one needs no goldens."""
    here = encoder.profile.stack
    if here in stacks:
        return Comparison()
    rows = goldens()
    lowest = None if rows is None or not len(rows) else lowest_cosine(encoder, rows)
    return Comparison(differences(stacks, here), lowest)


def lowest_cosine(encoder: Encoder, goldens: pa.Table) -> float:
    """Embed goldens again. One that cannot be embedded any more has a cosine of 0."""
    from embedmill.release.goldens import VECTOR

    stored = np.stack(goldens.column(VECTOR).to_numpy()).astype(np.float32)
    rows = goldens.select(encoder.fields).combine_chunks().to_batches()[0]
    return float(cosines(encoder.encode(rows).vectors_ND, stored).min())


def differences(stacks: Sequence[Stack], here: Stack) -> str:
    """Such as `pillow 13.0 -> 14.0`: against the stack that is most like this one."""
    if not stacks:
        return "what computed the vectors is not recorded"
    found = [_changed(_parts(stack), _parts(here)) for stack in stacks]
    _, fewest = min((len(changes), changes) for changes in found)
    return ", ".join(fewest)


def _parts(stack: Stack) -> dict[str, str]:
    return {"device": stack.device, stack.runtime: stack.runtime_version, **stack.libraries}


def _changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{name} {before.get(name, 'none')} -> {after.get(name, 'none')}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def check_numerics(home: Home, plan: Plan, encoder: Encoder) -> None:
    """Let this machine work on a run only if it makes the vectors that the run has.

    Raises:
        NumericsMoved: It makes others: their cosine with the run's goldens is below 0.9999.
    """
    found = compare(encoder, plan.numerics.stacks, lambda: planned_goldens(home, plan))
    if found.moved:
        raise NumericsMoved(
            f"run {plan.run}: this machine would mix numerics: {found}",
            hint="install the versions that it was planned with; or, once all are upgraded, `embedmill run`",
        )


def planned_goldens(home: Home, plan: Plan) -> pa.Table | None:
    """The goldens of a plan.

    Raises:
        ObjectMissing: They were collected.
        ReleaseCorrupt: They are damaged.
    """
    if plan.goldens is None:
        return None
    from embedmill.release.goldens import read_goldens  # here, for a loop rarely looks at any

    return read_goldens(home.verified(home.key(plan.goldens.path), plan.goldens))


def goldens_entry(release: Release) -> FileEntry | None:
    """The item goldens of a release, as a file of the pipeline's folder; None if it has no vectors."""
    for entry in release.content.goldens:
        if entry.path.startswith("goldens/item."):
            return entry.model_copy(update={"path": join_key("releases", release.name, entry.path)})
    return None


def numerics_of(content: Content) -> Numerics:
    """The numerics of a release; those that were made before these were recorded have their profiles."""
    if content.numerics.stacks:
        return content.numerics
    stacks = distinct(profile.stack for profile in content.profiles)
    return content.numerics.model_copy(update={"stacks": stacks})


def highest_epoch(home: Home) -> int:
    """Of all releases that the log names and that are there: rolled back to or not."""
    epochs = [0]
    for release in {entry.release for entry in read_history(home).entries if entry.kind == "publish"}:
        with suppress(ObjectMissing):  # retired, and collected
            epochs.append(home.read(Content, home.release_key(release, CONTENT)).numerics.epoch)
    return max(epochs)
