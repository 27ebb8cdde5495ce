"""The seam of protocols of embedding servers: raw fields in, vectors out, any model and version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy.typing as npt

from embedmill.runtimes.base import TensorSpec
from embedmill.runtimes.remote.base import Feeds

RELEASE, NUMBER, MODEL = "embedmill-release", "embedmill-release-number", "embedmill-model"
"""What a server may say of where its vectors come from: Embedmill's in headers, a Triton's in parameters."""


@dataclass(frozen=True)
class Asked:
    """A model at a server, and the output that has its vectors."""

    model: str
    version: int
    output: TensorSpec


@dataclass(frozen=True)
class Told:
    """What a server says of a model, as far as its protocol can say it.

    `inputs` and `outputs` are None where it has no metadata; `most_rows` is 0 where it names no limit;
    `labels` has `RELEASE`, `NUMBER` and `MODEL`, those that it says.
    """

    server: str = ""
    inputs: Mapping[str, TensorSpec] | None = None
    outputs: Mapping[str, TensorSpec] | None = None
    most_rows: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """An answer that is no success. `well_formed`: it is an error as the protocol has them."""

    status: int
    words: str
    well_formed: bool


class FieldServer(Protocol):
    """A server. All calls are made in one event loop, and raise as those of `ModelServer` do."""

    VERSIONED: bool
    """Whether a request names the version that it wants."""

    async def describe(self, asked: Asked) -> Told:
        """Ask what the model is."""
        ...

    async def embed(self, asked: Asked, tensors: Feeds) -> npt.NDArray[Any]:
        """The output, as the server gives it: of no shape that is promised."""
        ...

    async def refusal(self, asked: Asked, tensors: Feeds) -> Refusal | None:
        """Ask what should be refused: what the server says, None where it answers."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


def labels_of(headers: Mapping[str, str]) -> dict[str, str]:
    """What the headers of an answer say of the release."""
    return {name: headers[name] for name in (RELEASE, NUMBER, MODEL) if headers.get(name)}


def digits_bytes(rows: int, output: TensorSpec) -> int:
    """Bytes that an answer in JSON may have."""
    width = output.shape[-1] if output.shape else None
    return (rows + 1) * ((width if isinstance(width, int) else 65_536) * 64 + 4096)
