"""What rows cost, and how long the work should take."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedmill.catalog.frozen import with_images
from embedmill.cores import cores, cores_at_once
from embedmill.hashing import messages_of
from embedmill.spec import BytesInput, ImageInput, StringInput, TextInput
from embedmill.spec.documents import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor

    import numpy.typing as npt

    from embedmill.catalog import ImageSource
    from embedmill.model import Encoder, ModelPackage
    from embedmill.model.feeds import Fed
    from embedmill.planning.shards import FrozenShard
    from embedmill.release.reader import Release
    from embedmill.spec import EncoderInputs, WorkSpec
    from embedmill.types import CanonicalColumn, Encoded

ResultT = TypeVar("ResultT")

BYTES_PER_TOKEN = 4
"""Of English text in WordPiece tokens; only the ratio between rows matters."""

IMAGE_COST = 256
"""One image, in tokens of text."""

SAMPLE_ROWS = 32
"""Goldens of a plan, and what its estimate rests on."""
TRUSTED_VECTORS = 1000
"""Vectors that a release must have computed for its rate to be taken over."""


class Measured(NamedTuple):
    """How long one thread of this machine takes with the `item` encoder for so many rows."""

    seconds: float
    rows: int


def row_costs(inputs: EncoderInputs, columns: Sequence[CanonicalColumn]) -> npt.NDArray[np.int64]:
    """int64[N]: the estimated cost of each row, in tokens."""
    total = np.zeros(len(columns[0].values), dtype=np.int64)
    for column in columns:
        kind = inputs.root[column.name].kind
        if isinstance(kind, TextInput | StringInput):
            lengths = pc.binary_length(messages_of(column.values)).to_numpy(zero_copy_only=False)
            tokens = lengths // BYTES_PER_TOKEN + 2
            total += tokens if kind.max_length is None else np.minimum(tokens, kind.max_length)
        else:
            total += IMAGE_COST * len(kind.fields) if isinstance(kind, ImageInput | BytesInput) else 1
    return total


def estimate_work(
    shards: Sequence[FrozenShard],
    package: ModelPackage,
    base: Release | None,
    images: ImageSource,
    work: WorkSpec,
    encoder: Callable[[], Encoder],
    measured: Measured | None = None,
    lanes: int = 1,
) -> Estimate:
    """Seconds of the embedding stage: by the live release's rate, or measured on a few of the rows.

    Both are rates of a core, so that it does not matter how many threads a loop has, or had for the release.

    `encoder` is called for only the latter, unless some were `measured` already; what it raises is found out
    before any work starts.
    """
    rows = sum(shard.rows for shard in shards)
    if not rows:
        return Estimate(seconds=0.0, source="nothing to compute")
    at_once = cores_at_once(len(shards), work.workers, lanes)
    beside = f"{at_once} core{'s' if at_once > 1 else ''} at a time"
    if base is not None and _rate_is_trusted(base, package):
        threads = max((profile.threads for profile in base.content.profiles), default=1)
        seconds, computed = base.content.seconds * threads, base.content.computed
        source = f"the rate of release {base.name}, {beside}"
    elif images.has_urls:
        return Estimate(seconds=None, source="images come by URL, and none is fetched to find out")
    else:
        shard = shards[len(shards) // 2]
        seconds, computed = measured or measure(encoder(), sample_of(shard, encoder().package, images)[0])[1]
        source = f"measured on {computed} of the rows, {beside}"
    return Estimate(seconds=round(seconds / computed * rows / at_once, 3), source=source)


def _rate_is_trusted(base: Release, package: ModelPackage) -> bool:
    same_model = base.content.encoder_digest == package.encoder_digest(epoch=base.content.numerics.epoch)
    return same_model and base.content.computed >= TRUSTED_VECTORS and base.content.seconds > 0


def sample_of(
    shard: FrozenShard, package: ModelPackage, images: ImageSource
) -> tuple[pa.RecordBatch, Sequence[int]]:
    """Its first rows with their images, and those that lack one."""
    rows, missing = with_images(shard.first_rows(SAMPLE_ROWS), package.inputs("item").image_fields, images)
    return rows, list(missing)


def measure(encoder: Encoder, rows: pa.RecordBatch) -> tuple[Encoded, Measured]:
    """Embed rows, and say how long one thread takes for that."""
    encoder.encode(rows.slice(0, 1))  # the first call makes buffers
    aside = Aside(overlaps=cores() > 1)
    encoded, spent_s = aside.timed(lambda: encoder.compute(encoder.prepare(rows), feeding=aside.feeding))
    return encoded, Measured(spent_s, len(rows))


@dataclass
class Aside:
    """A thread makes the arrays of the next batch while one is computed: images are decoded meanwhile.

    Only where it `overlaps`: on one core both would take turns, and the time of each be counted twice.
    `made_s`: how long the thread made them; `waited_s`: how long they were waited for.
    """

    overlaps: bool
    clock: Callable[[], float] = time.perf_counter
    made_s: float = 0.0
    waited_s: float = 0.0

    def timed(self, compute: Callable[[], ResultT]) -> tuple[ResultT, float]:
        """What is computed, and the seconds that this and making its arrays take one after the other."""
        started_s = self.clock()
        computed = compute()
        return computed, self.clock() - started_s - self.waited_s + self.made_s

    @contextmanager
    def feeding(self, feeds: Iterator[Fed]) -> Iterator[Iterator[Fed]]:
        """The arrays of each batch."""
        if not self.overlaps:
            yield feeds
            return
        with ThreadPoolExecutor(1, "sample") as thread:
            yield self._handed_on(thread, feeds)

    def _handed_on(self, thread: Executor, feeds: Iterator[Fed]) -> Iterator[Fed]:
        coming = thread.submit(self._made, feeds)
        while True:
            asked_s = self.clock()
            fed = coming.result()
            self.waited_s += self.clock() - asked_s
            if fed is None:
                return
            coming = thread.submit(self._made, feeds)
            yield fed

    def _made(self, feeds: Iterator[Fed]) -> Fed | None:
        began_s = self.clock()
        fed = next(feeds, None)
        self.made_s += self.clock() - began_s
        return fed
