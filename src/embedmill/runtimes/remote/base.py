"""The seam of protocols: one question at a time, asynchronously; who asks is `runtime.RemoteModel`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from embedmill.errors import ModelError
from embedmill.runtimes.base import TensorSpec

Feeds = Mapping[str, npt.NDArray[Any]]
WIDEST = 65_536
"""Values a row that an output may have which does not say how many: it bounds what is read."""
OVERHEAD_BYTES = 64 * 1024
"""What an answer may have beside its values; and what one may have that has none."""


class Unanswered(Exception):
    """One try got no answer, or was asked to come again; another may get one.

    `reached`: there was a connection, so that the address is right. `wait_s`: what the server asked for.
    `limited`: it works, and answers no more of this caller just now (429).
    """

    def __init__(
        self, why: str, *, reached: bool = True, wait_s: float | None = None, limited: bool = False
    ) -> None:
        super().__init__(why)
        self.why = why
        self.reached = reached
        self.wait_s = wait_s
        self.limited = limited


class NotThere(ModelError):
    """The server does not have the model, or not that version. It may be loading it again."""


@dataclass(frozen=True)
class Description:
    """What a server says of itself and of a model.

    `server` is such as `2.51.0`, empty where it does not say; `max_batch` is 0 where it has no limit.
    """

    server: str
    version: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    max_batch: int = 0


class ModelServer(Protocol):
    """One model, in one version, at one server. All calls are made in one event loop.

    Calls raise Unanswered where another try may help, NotThere where the model is not, and ModelError for
    everything that another try would not change.
    """

    async def describe(self) -> Description:
        """Ask what the model is fed, and what it gives."""
        ...

    async def infer(self, feeds: Feeds, output: TensorSpec) -> npt.NDArray[Any]:
        """Compute one output; of no shape that is promised."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


def one_line(words: str, *, at_most: int = 300) -> str:
    """A server's words, fit for a message: no line breaks or control characters, and not endless."""
    cut = words[: 4 * at_most]
    plain = " ".join("".join(c if c.isprintable() else " " for c in cut).split())
    return plain if len(plain) <= at_most else f"{plain[:at_most]}…"


def answer_bytes(rows: int, output: TensorSpec, *, value_bytes: int) -> int:
    """How many bytes the answer for `rows` rows may have."""
    width = output.shape[-1] if len(output.shape) > 1 else None
    return rows * (width if isinstance(width, int) else WIDEST) * value_bytes + OVERHEAD_BYTES


def rows_of(feeds: Feeds) -> int:
    """N: rows that all feeds have."""
    return len(next(iter(feeds.values())))


def as_bytes(strings: npt.NDArray[Any]) -> npt.NDArray[np.object_]:
    """A `string` tensor with each value as UTF-8."""
    encoded = np.empty(strings.shape, np.object_)
    encoded.ravel()[:] = [each.encode() if isinstance(each, str) else bytes(each) for each in strings.ravel()]
    return encoded
