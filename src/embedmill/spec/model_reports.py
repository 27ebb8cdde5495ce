"""The JSON documents that the commands of `model` print with `--json`."""

from __future__ import annotations

from typing import ClassVar, Literal

from embedmill.spec.document import Document, Part
from embedmill.spec.model import ModelSpec
from embedmill.spec.runtimes import EncoderName


class RuntimeEntry(Part):
    """A declared runtime: what it loads or asks, and whether it can compute on this machine's CPU.

    `model` is the path of a file or folder, or the name and version at a server. It is `available` where its
    library is installed and a server's address known; else `why` says why not. `platforms`: what an artifact
    of JAX was lowered for; null of all others, and where that cannot be told.
    """

    kind: str
    where: Literal["file", "folder", "server"]
    model: str
    encoders: tuple[EncoderName, ...]
    extra: str
    available: bool
    why: str
    platforms: tuple[str, ...] | None


class ModelReport(Document):
    """`model show` and `model import`; `files` are sizes in bytes."""

    SCHEMA: ClassVar[str] = "model/2"

    folder: str
    model: ModelSpec
    runtimes: tuple[RuntimeEntry, ...]
    package_digest: str
    encoder_digests: dict[str, str]
    files: dict[str, int]


class RuntimeCheck(Part):
    """What one runtime of an encoder did with its goldens; cosine and speed are null where it has none.

    `model` is as in `RuntimeEntry`. `unavailable`: it computes nothing here; `failed`: it moved goldens, is
    damaged or does not fit; `why` says why, and is empty where it is `ok`. `reduced_cosine`: the lowest
    between vectors of JPEGs decoded at a reduced scale and whole; null where no input declares `reduced`.
    """

    kind: str
    model: str
    state: Literal["ok", "unavailable", "failed"]
    why: str
    version: str | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    lowest_cosine: float | None
    rows_per_second: float | None
    reduced_cosine: float | None = None


class EncoderCheck(Part):
    """An encoder, and all runtimes that are declared for it, the reference first."""

    name: str
    digest: str
    dimension: int
    goldens: int
    runtimes: tuple[RuntimeCheck, ...]


class ModelCheckReport(Document):
    """`model check`. `ok`: no runtime failed; else the command ends with 1."""

    SCHEMA: ClassVar[str] = "model-check/2"

    ok: bool
    model: str
    package_digest: str
    encoders: tuple[EncoderCheck, ...]
