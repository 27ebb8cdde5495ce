"""A deployed model, as Triton's Python backend runs it: requests in, vectors or a reason out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from embedmill.errors import EmbedmillError, ModelError, ProofFailed
from embedmill.model import Encoder, ModelPackage
from embedmill.model.goldens import LOWEST_COSINE, cosines
from embedmill.model.raw_tensors import Tensors, rows_of_tensors
from embedmill.release.goldens import VECTOR, read_goldens
from embedmill.spec.deployed import DEPLOYED, GOLDENS, PACKAGE, DeployedEncoder

if TYPE_CHECKING:
    from embedmill.spec import EncoderInputs
    from embedmill.types import Encoded, Vectors

PROVEN = 64
"""Goldens that are embedded before the first answer."""


@dataclass(frozen=True)
class DeployedModel:
    """An encoder of a release, from a version's folder of a model repository."""

    deployed: DeployedEncoder
    encoder: Encoder

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> DeployedModel:
        """Load what lies in `folder`, and let it show that it is what was published.

        Raises:
            ModelError: The package is not the one that was deployed, or cannot be loaded.
            ProofFailed: It does not make the vectors of the release.
        """
        deployed = DeployedEncoder.from_bytes((folder / DEPLOYED).read_bytes(), str(folder / DEPLOYED))
        package = ModelPackage.open(folder / PACKAGE)
        if package.package_digest() != deployed.package_digest:
            raise ModelError(
                f"{folder}: the model package is not that of release {deployed.release}",
                hint="`embedmill deploy triton` lays it out again",
            )
        encoder = Encoder.load(package, deployed.encoder, device=device, threads=deployed.threads)
        found = cls(deployed, encoder)
        found._prove(folder / GOLDENS)
        return found

    def answer(self, requests: Sequence[Tensors]) -> list[Vectors | str]:
        """The vectors of each request, float32[n, D], or why it has none."""
        answers: list[Vectors | str] = [""] * len(requests)
        parts: list[tuple[int, pa.RecordBatch]] = []
        for place, tensors in enumerate(requests):
            try:
                parts.append((place, rows_of_tensors(self._inputs, tensors)))
            except EmbedmillError as error:
                answers[place] = str(error)
        for place, answer in self._together(parts):
            answers[place] = answer
        return answers

    def close(self) -> None:
        """End the processes that decode images."""
        self.encoder.close()

    @property
    def _inputs(self) -> EncoderInputs:
        return self.encoder.package.inputs(self.encoder.name)

    def _together(self, parts: Sequence[tuple[int, pa.RecordBatch]]) -> list[tuple[int, Vectors | str]]:
        """All rows in one go; where that fails each request by itself, so that it is to blame alone."""
        if not parts:
            return []
        rows = pa.Table.from_batches([rows for _, rows in parts]).combine_chunks().to_batches()[0]
        try:
            encoded = self.encoder.encode(rows)
        except EmbedmillError as error:
            if len(parts) == 1:
                return [(parts[0][0], str(error))]
            return [answer for part in parts for answer in self._together([part])]
        return list(_cut(encoded, parts))

    def _prove(self, file: Path) -> None:
        """As `serving.proof` does: without goldens there is nothing to show, and nothing is served."""
        goldens = read_goldens(file).slice(0, PROVEN)
        rows = goldens.select(list(self.encoder.fields)).combine_chunks().to_batches()[0]
        stored = np.stack(goldens.column(VECTOR).to_numpy()).astype(np.float32)
        found = cosines(self.encoder.encode(rows).vectors_ND, stored)
        if not found.min() >= LOWEST_COSINE:
            raise ProofFailed(
                f"release {self.deployed.release}: encoder {self.encoder.name!r} does not make the vectors "
                f"that were published: the lowest cosine is {found.min():.6f}, below {LOWEST_COSINE}"
            )


def _cut(
    encoded: Encoded, parts: Sequence[tuple[int, pa.RecordBatch]]
) -> Iterator[tuple[int, Vectors | str]]:
    start = 0
    for place, rows in parts:
        end = start + rows.num_rows
        rejected = [(row - start, why) for row, why in encoded.rejected.items() if start <= row < end]
        if rejected:
            row, why = rejected[0]
            yield place, f"row {row}: {why.reason}: {why.detail}"
        else:
            yield place, encoded.vectors_ND[start:end]
        start = end
