"""Which numerics a new run has: those of the live release, or a new epoch, since its goldens moved."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from embedmill.cores import cores
from embedmill.errors import DeviceUnavailable, EmbedmillError, MissingExtra
from embedmill.model import Encoder
from embedmill.model.agreement import check_agreement
from embedmill.planning.estimate import Measured, measure, sample_of
from embedmill.release.goldens import VECTOR, read_goldens
from embedmill.release.numerics import (
    Comparison,
    compare,
    goldens_entry,
    highest_epoch,
    numerics_of,
)
from embedmill.release.verdicts import agreement_shown
from embedmill.spec.documents import Numerics, distinct
from embedmill.spec.pipeline import BATCH_TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from embedmill.catalog import ImageSource
    from embedmill.model import ModelPackage
    from embedmill.planning.shards import FrozenShard
    from embedmill.release.layout import Home
    from embedmill.release.reader import Release
    from embedmill.spec import WorkSpec
    from embedmill.spec.documents import Estimate, Stack

LONG_S = 60.0
"""Work that takes longer is begun only with a package that agrees with its goldens."""


class Sample(NamedTuple):
    """A file of goldens, how many they are, and how long the rows took that they are of."""

    file: Path
    rows: int
    measured: Measured


@dataclass(frozen=True)
class Here:
    """The `item` encoder as the planner's machine computes it.

    Loaded when it is first asked for, and once: that is most of a short plan's time. `close` lets it go.
    """

    package: ModelPackage
    work: WorkSpec

    def encoder(self) -> Encoder:
        """The encoder itself.

        Raises:
            ModelError: It cannot be loaded.
            MissingExtra, DeviceUnavailable: This machine cannot compute.
        """
        found = self._encoder
        if isinstance(found, Exception):
            raise found
        return found

    @cached_property
    def _encoder(self) -> Encoder | MissingExtra | DeviceUnavailable:
        try:
            return Encoder.load(
                self.package,
                batch_tokens=self.work.batch_tokens or BATCH_TOKENS,
                batch_images=self.work.batch_images,
            )
        except (MissingExtra, DeviceUnavailable) as error:
            return error

    @contextmanager
    def opened_beside(self) -> Iterator[None]:
        """Where there are several cores: load it beside the block, and start what decodes images.

        Its files are digested before. What is wrong with it is told to who asks for it and loads it again.
        However the block ends, also by Ctrl-C, it is waited for: nobody can end a load that has begun.
        """
        if cores() == 1:
            yield
            return
        with ThreadPoolExecutor(1, "open") as thread:
            thread.submit(self._open)  # nobody looks at what comes of it: who asks for the encoder does
            yield

    def _open(self) -> None:
        with suppress(EmbedmillError, OSError):
            self.package.file_digests()
            self.encoder().start_decoders()

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """The one of this machine; none where it cannot compute."""
        found = self._encoder
        return () if isinstance(found, Exception) else (found.profile.stack,)

    @property
    def absent(self) -> str:
        """Why this machine cannot compute; empty if it can."""
        found = self._encoder
        return str(found) if isinstance(found, Exception) else ""

    def compare(self, stacks: Sequence[Stack], goldens: Callable[[], pa.Table | None]) -> Comparison:
        """Compare this machine with what stacks made; one that cannot compute leaves that to the workers."""
        found = self._encoder
        return Comparison() if isinstance(found, Exception) else compare(found, stacks, goldens)

    def sample(self, shards: Sequence[FrozenShard], images: ImageSource, scratch: Path) -> Sample | None:
        """Goldens of rows that are to be computed: by them workers prove themselves.

        None where there are no rows, where this machine cannot compute, or where images come by URL:
        none is downloaded for this.
        """
        if not shards or images.has_urls:
            return None
        encoder = self._encoder
        if isinstance(encoder, Exception):
            return None
        rows, missing = sample_of(shards[len(shards) // 2], self.package, images)
        encoded, measured = measure(encoder, rows)
        usable = np.setdiff1d(np.arange(len(rows)), [*missing, *encoded.rejected])
        vectors = encoded.vectors_ND[usable]
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        table = pa.Table.from_batches([rows.take(pa.array(usable))]).append_column(VECTOR, column)
        file = scratch / "item.arrow"
        with pa.ipc.new_file(str(file), table.schema) as writer:
            writer.write_table(table)
        return Sample(file, len(table), measured)

    def check_agreement(self, estimate: Estimate, base: Release | None = None) -> None:
        """Find out before long work, not after it, that a package contradicts its own goldens.

        Short work is done by the time that this would take; then the gate `goldens` finds out. What the live
        release, `base`, showed of the same package is known, as it is to that gate.

        Raises:
            ModelError: It does.
        """
        if estimate.seconds is not None and estimate.seconds < LONG_S:
            return
        if agreement_shown(base, self.package.package_digest()) is not None:
            return
        found = self._encoder
        check_agreement(self.package, {} if isinstance(found, Exception) else {"item": found})

    def close(self) -> None:
        """Let go of what was loaded; whoever asks again would load it again."""
        found = self.__dict__.pop("_encoder", None)
        if isinstance(found, Encoder):
            found.close()


def decide_numerics(home: Home, package: ModelPackage, base: Release | None, here: Here) -> Numerics:
    """The numerics of a run on top of the live release.

    A model that is not the live one has nothing to compare with, and stays in the epoch that it finds. A new
    epoch has a number above that of every release there is, so that none is used twice.
    """
    if base is None:
        return Numerics(stacks=here.stacks)
    before = numerics_of(base.content)
    if base.content.encoder_digest != package.encoder_digest(epoch=before.epoch):
        return Numerics(epoch=before.epoch, stacks=here.stacks)
    if here.absent:
        why = f"goldens were not compared: {here.absent}; workers compare them"
        return before.model_copy(update={"why": why})
    entry = goldens_entry(base)
    found = here.compare(
        before.stacks, lambda: entry and read_goldens(home.verified(home.key(entry.path), entry))
    )
    if found.moved:
        epoch = highest_epoch(home) + 1
        return Numerics(
            epoch=epoch, stacks=here.stacks, why=f"numerics epoch {before.epoch} -> {epoch}: {found}"
        )
    why = f"{found}; vectors are kept" if found.changes else ""
    return before.model_copy(update={"stacks": distinct([*before.stacks, *here.stacks]), "why": why})
