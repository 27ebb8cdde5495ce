"""Value types that every layer shares.

Shape legend, used as suffixes: N items or rows, D dimensions, T tokens, Q queries, K hits.
`vectors_ND` is float32 unless its name says otherwise; a `key` is a `/`-separated path in a store.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from embedmill.errors import ERROR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Vectors: TypeAlias = npt.NDArray[np.float32]
"""float32[N, D]"""

Digests: TypeAlias = npt.NDArray[np.bytes_]
"""S16[N]: 128-bit digests; numpy orders them as memcmp does, which is the order of every sorted file."""

Mask: TypeAlias = npt.NDArray[np.bool_]
"""bool[N]"""

Rows: TypeAlias = npt.NDArray[np.int64]
"""int64[N]: row numbers; -1 means none."""

DIGEST_BYTES = 16

STAGES = ("read", "fetch", "prepare", "batch", "runtime", "write")
"""Of a worker, in the order in which rows pass them."""


class ItemState(StrEnum):
    """What an item of a release is: it has a vector, or its input was empty."""

    EMBEDDED = "embedded"
    EMPTY = "empty"


class Reason(StrEnum):
    """Why an item is in quarantine."""

    NULL_ID = "null-id"
    DUPLICATE_ID = "duplicate-id"
    UNREADABLE_ROW = "unreadable-row"
    IMAGE_MISSING = "image-missing"
    IMAGE_INVALID = "image-invalid"
    IMAGE_TOO_LARGE = "image-too-large"
    FETCH_FAILED = "fetch-failed"
    FETCH_TIMEOUT = "fetch-timeout"
    REFUSED_ADDRESS = "refused-address"
    SOURCE_CHANGED = "source-changed"
    VALUE_MISSING = "value-missing"
    VALUE_UNKNOWN = "value-unknown"
    VALUE_INVALID = "value-invalid"
    NOT_FINITE = "not-finite"


FETCH_REASONS = frozenset({Reason.FETCH_FAILED, Reason.FETCH_TIMEOUT})
"""Reasons that may be gone tomorrow: with these an item may keep its previous vector."""


class Rejection(NamedTuple):
    """Why one row could not be embedded; `lasting`: the same decoders would refuse the same bytes again."""

    reason: Reason
    detail: str
    lasting: bool = False


def worse(rejected: Mapping[int, Rejection], more: Mapping[int, Rejection]) -> dict[int, Rejection]:
    """Both together: of a row that both refuse, such as for two images, what will not pass counts."""
    passing = {row for row, why in more.items() if row in rejected and why.reason in FETCH_REASONS}
    return {**rejected, **{row: why for row, why in more.items() if row not in passing}}


InputKind: TypeAlias = Literal[
    "text", "image", "images", "category", "list", "set", "number", "boolean", "string", "bytes"
]
"""What the canonical bytes of an input mean; see `CanonicalColumn`."""


@dataclass(frozen=True)
class CanonicalColumn:
    """What an encoder will see of one input, for N rows, as bytes: the stuff of fingerprints."""

    name: str
    kind: InputKind
    values: Sequence[bytes]


@dataclass(frozen=True)
class Encoded:
    """What an encoder made of N rows.

    `vectors_ND[i]` is zero where `rejected` has row i; rows keep their order. `thumbnails` has JPEG
    files of the rows' images, where the decoder was asked for them. `lanes`: batches that were computed
    beside each other.
    """

    vectors_ND: Vectors
    rejected: Mapping[int, Rejection]
    thumbnails: Mapping[int, bytes] = field(default_factory=dict)
    lanes: int = 1


@dataclass(frozen=True)
class Hit:
    """One answer of a search: `fields` are the release's display columns."""

    id: Any
    score: float
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Host:
    """A server, and how a program is started on it: `reach` is an argument vector that a command follows.

    For ssh it ends with the address; for this machine it is empty. `folder` is where locks and logs are.
    """

    name: str
    reach: tuple[str, ...]
    folder: str


@dataclass(frozen=True)
class YieldRule:
    """When a borrowed GPU is given back: somebody else has more of its memory, or keeps it busier, than this.

    `baseline_mib` is in use on the idle GPU; programs whose names begin with one of `exempt` are nobody else.
    """

    baseline_mib: int = 0
    memory_mib: int = 500
    utilisation: int = 5
    exempt: tuple[str, ...] = ()
    every_s: float = 1.0


@dataclass(frozen=True)
class Placement:
    """Where an engine is to run one worker loop.

    On another host: `gpus` are the UUIDs that it must hold the locks of, `command` the argument vector that
    `worker …` is appended to (such as `podman run … IMAGE embedmill`), `yields` says when the GPUs are given
    back (None: not before the work is done), `image` and `type` are for reports. `gpu_memory_mib` is the most
    of each GPU's memory that it may take; None: as much as the model does. `engine`: whose place it is, where
    several engines work on one run. `lanes`: batches that it computes beside each other, of `threads` each.
    """

    worker: str
    device: str = "cpu"
    threads: int = 1
    host: Host | None = None
    gpus: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    yields: YieldRule | None = None
    cleanup: tuple[str, ...] = ()
    cid_file: str = ""
    image: str = ""
    type: str = ""
    gpu_memory_mib: int | None = None
    engine: str = ""
    lanes: int = 1


@dataclass(frozen=True)
class Opening:
    """What a loop opens before it knows its run: the folder of a model package, and how it will be used.

    `all_lanes`: there will be much to do, so that the model is opened for each lane at once.
    """

    model: str
    batch_tokens: int
    batch_images: int
    thumbnails: int | None = None
    all_lanes: bool = False


@dataclass(frozen=True)
class Look:
    """What a search for places found: where loops may be started now, and what was passed over.

    `passed_over` has words by place, such as `gpu-07 #1` → `busy: 38092 MiB are in use`. `answered`: of
    several engines, those that were asked anew; None: all that there are.
    """

    free: tuple[Placement, ...]
    passed_over: Mapping[str, str] = field(default_factory=dict)
    answered: frozenset[str] | None = None


@dataclass(frozen=True)
class WorkerState:
    """What an engine knows of one worker loop: `exit_code` None while it runs; `said` has its last words.

    `waits`: it will run once there is a place for it, and nobody knows when. `halvings`: so often its lanes,
    then batches will be halved at its next start, since the kernel ended it for lack of memory; else 0.
    """

    worker: str
    exit_code: int | None
    said: str = ""
    waits: bool = False
    halvings: int = 0

    def __post_init__(self) -> None:
        """Whoever tells of it says himself that it is an error."""
        object.__setattr__(self, "said", self.said.removeprefix(ERROR))


@dataclass(frozen=True)
class Progress:
    """How far a stage is: `done` of `total` (None: unknown) `unit`s; `note`: what happened just now.

    `busiest`: the stage of a worker that the others wait for, as far as workers told.
    """

    stage: str
    done: int = 0
    total: int | None = None
    unit: str = "items"
    failed: int = 0
    note: str = ""
    busiest: str = ""
