"""One encoder of a package, loaded: rows in, vectors out. Worker and server share this code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from embedmill.errors import ModelError
from embedmill.model import images, tokens
from embedmill.model.apart import Run, run_apart
from embedmill.model.batches import Budgets, pack
from embedmill.model.feeds import Binding, Fed, Prepared, bind
from embedmill.model.goldens import check_goldens, goldens_file
from embedmill.model.images import ImageDecoder, decoders_beside
from embedmill.model.inputs import check_columns
from embedmill.model.lanes import Given, Sessions, in_lanes
from embedmill.model.loading import LoadedModel, load_model
from embedmill.model.package import ModelPackage
from embedmill.runtimes import Frugal, Runtime, Waiting
from embedmill.spec import RuntimeSpec
from embedmill.spec.documents import Profile
from embedmill.types import Encoded, Reason, Rejection, Rows, Vectors

Computed: TypeAlias = tuple[Vectors, dict[int, Rejection]]
Feeding: TypeAlias = Callable[[Iterator[Fed]], AbstractContextManager[Iterator[Fed | Given[Fed, Computed]]]]
"""Hands on what feeds batches, in order, some of them begun to be computed; inside its `with` block."""


@dataclass(frozen=True)
class ReadyRows:
    """`count` rows, prepared, and the batches that they are cut into."""

    count: int
    prepared: Prepared
    batches: Sequence[Rows]


@dataclass(frozen=True)
class Encoder:
    """Turns rows into vectors, as the package declares.

    `profile` has everything beside package and row order that may move a vector's bits. `sessions` open the
    same model once more, for batches beside each other, which moves no bit. Images are decoded in
    processes of their own, which start at the first one. They end with `close` or with a `with` block, and at
    the latest with the encoder or this process.
    """

    package: ModelPackage
    name: str
    dimension: int
    profile: Profile
    runtime: Runtime
    binding: Binding
    sessions: Sessions = field(default_factory=Sessions, repr=False, compare=False)
    is_first: bool = True  # whether its runtime is the package's first, which made the goldens

    @classmethod
    def load(
        cls,
        package: ModelPackage,
        name: str = "item",
        *,
        using: RuntimeSpec | None = None,
        compared: bool = True,
        device: str = "cpu",
        threads: int = 1,
        lanes: int = 1,
        batch_tokens: int = 512,
        batch_images: int = 16,
        gpu_memory_mib: int | None = None,
        decoder: ImageDecoder | None = None,
    ) -> Encoder:
        """Load the model and its tokenizers.

        Args:
            package: An opened package.
            name: `item`, `query_text` or `query_image`.
            using: One of the package's runtimes; where absent the first that can compute here.
            compared: Whether one that is not the first must show by goldens that it makes the same vectors.
            device: Where to compute: `cpu`, `cuda`, `cuda:1`, `tpu`, as far as the runtime knows it.
            threads: Threads a batch; as many lanes of one thread are faster.
            lanes: Batches that `compute` makes beside each other; each opens the model, at its first.
            batch_tokens: Rows x longest row of a batch with text; rows, where no length is known.
            batch_images: Rows of a batch with images.
            gpu_memory_mib: Most memory of a GPU, where the model's own limit is not lower.
            decoder: What decodes images; by default one of its own, with `decoders_beside` processes.

        Raises:
            ModelError: No such encoder, a damaged file, inputs or outputs that do not fit model.yaml, or a
                runtime that is not the first and does not show by goldens that it makes the same vectors.
            MissingExtra: None of the declared runtimes is installed.
        """
        loaded = load_model(
            package,
            name,
            using=using,
            device=device,
            threads=threads,
            lanes=lanes,
            gpu_memory_mib=gpu_memory_mib,
        )
        return cls.of(
            loaded,
            compared=compared,
            batch_tokens=batch_tokens,
            batch_images=batch_images,
            decoder=decoder,
        )

    @classmethod
    def of(
        cls,
        loaded: LoadedModel,
        *,
        compared: bool = True,
        batch_tokens: int = 512,
        batch_images: int = 16,
        decoder: ImageDecoder | None = None,
    ) -> Encoder:
        """The encoder of a model that is open; see `load`.

        Raises:
            ModelError: A tokenizer is damaged, inputs or outputs do not fit model.yaml, or the runtime is not
                the first and does not show by goldens that it makes the same vectors.
        """
        package, runtime = loaded.package, loaded.runtime
        children = decoders_beside(loaded.device, loaded.threads * loaded.sessions.lanes)
        binding = bind(package, loaded.name, runtime, decoder or ImageDecoder(children=children))
        _check_output(package, runtime)
        profile = Profile(
            runtime=runtime.name,
            runtime_version=runtime.version,
            device=loaded.device,
            precision=package.spec.precision,
            threads=loaded.threads,
            batch_tokens=batch_tokens,
            batch_images=batch_images,
            libraries=_libraries(binding),
        )
        made = profile, runtime, binding, loaded.sessions, loaded.is_first
        encoder = cls(package, loaded.name, package.spec.dimension, *made)
        if compared and not loaded.is_first:
            check_goldens(encoder, goldens_file(package, loaded.name))
        return encoder

    @property
    def lanes(self) -> int:
        """How many batches it computes beside each other, at most."""
        return self.sessions.lanes

    @property
    def fields(self) -> tuple[str, ...]:
        """Columns that `encode` reads."""
        return self.package.inputs(self.name).fields

    def encode(
        self,
        rows: pa.RecordBatch,
        *,
        on_batch: Callable[[int], None] | None = None,
        on_prepared: Callable[[], object] | None = None,
    ) -> Encoded:
        """Embed N rows: float32[N, D], in order; image columns hold images as binary.

        Args:
            rows: At least the columns of `fields`.
            on_batch: Called after each batch with the number of rows done in it, and with 0 while a server is
                waited for; what it raises ends this.
            on_prepared: Called once texts are tokenized and values are read, before the first batch.

        Raises:
            CatalogError: A column is absent or of a wrong type.
            ModelError: The model failed, or made vectors of another dimension than declared.
            DecodersFailed: No process that decodes images can be started.
        """
        ready = self.prepare(rows)
        if on_prepared is not None:
            on_prepared()
        return self.compute(ready, on_batch=on_batch)

    def prepare(self, rows: pa.RecordBatch) -> ReadyRows:
        """Tokenize texts, read values and cut batches of N rows: what any thread can do before `compute`.

        Raises:
            CatalogError: A column is absent or of a wrong type.
        """
        check_columns(self.package.inputs(self.name), rows.schema.names)
        prepared = self.binding.prepare(rows)
        return ReadyRows(rows.num_rows, prepared, self._batches(prepared, rows.num_rows))

    def compute(
        self,
        ready: ReadyRows,
        *,
        on_batch: Callable[[int], None] | None = None,
        feeding: Feeding = nullcontext,
    ) -> Encoded:
        """Embed N rows that are prepared; see `encode`.

        `feeding` may make arrays ahead of their turn. `on_batch` is called by the thread that asks, in the
        order of batches, however many are computed at a time.
        """
        vectors_ND: Vectors = np.zeros((ready.count, self.dimension), np.float32)
        rejected: dict[int, Rejection] = {}
        thumbnails: dict[int, bytes] = {}
        with ExitStack() as at_work, feeding(self.feeds(ready)) as fed:
            # lanes end last: who feeds them hears of an error first, and has nothing begun meanwhile
            done = at_work.enter_context(closing(in_lanes(*self._work(on_batch), fed)))
            for batch, ((_, kept, unusable, small), (computed, refused)) in zip(
                ready.batches, done, strict=True
            ):
                rejected |= unusable
                thumbnails |= small
                if len(kept):
                    rejected |= {int(kept[at]): why for at, why in refused.items()}
                    rejected |= _not_finite(computed, kept)
                    vectors_ND[kept] = _l2(computed) if self.package.spec.normalize == "l2" else computed
                if on_batch is not None:
                    on_batch(len(batch))
        vectors_ND[list(rejected)] = 0.0
        lanes = max(1, min(self.sessions.opened, len(ready.batches)))
        return Encoded(vectors_ND, rejected, thumbnails, lanes)

    def feeds(self, ready: ReadyRows) -> Iterator[Fed]:
        """What `compute` feeds to the runtime, batch by batch; made when it is asked for."""
        return (self.binding.feed(ready.prepared, batch) for batch in ready.batches)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed N texts by an encoder that reads one text field, as query encoders do: float32[N, D].

        Raises:
            ModelError: The encoder reads something else, or made a vector that is not finite.
        """
        field = self.package.inputs(self.name).text_field
        if field is None:
            raise ModelError(
                f"{self.package.root}: encoder {self.name!r} reads {', '.join(self.fields)}, not one text",
                hint="declare an encoder query_text in model.yaml, with one text field",
            )
        try:
            rows = pa.record_batch({field: pa.array(texts, pa.large_string())})
        except UnicodeEncodeError as error:
            raise ModelError(f"a text has a part that is no character: {error.reason}") from error
        encoded = self.encode(rows)
        for row, why in encoded.rejected.items():
            raise ModelError(f"text {texts[row]!r} could not be embedded: {why.reason}: {why.detail}")
        return encoded.vectors_ND

    def as_encoder(self, name: str) -> Encoder:
        """An encoder of the package with the same runtimes, computed by the model that is open here.

        Raises:
            ModelError: The inputs that it declares do not fit.
        """
        binding = bind(self.package, name, self.runtime, self.binding.decoder)
        profile = self.profile.model_copy(update={"libraries": _libraries(binding)})
        return replace(self, name=name, binding=binding, profile=profile)

    def smaller(self) -> Encoder | None:
        """This encoder with one lane and batches half as large: another profile; None: none is smaller."""
        budgets = Budgets.of(self.package.inputs(self.name))
        tokens, images = budgets.smaller(self.profile.batch_tokens, self.profile.batch_images)
        smaller = self.with_batches(tokens=tokens, images=images)
        if smaller.profile == self.profile:
            return None
        runtime = self.runtime.frugal() if isinstance(self.runtime, Frugal) else self.runtime
        return replace(smaller, runtime=runtime, sessions=Sessions())

    def with_batches(self, *, tokens: int, images: int) -> Encoder:
        """The same loaded model with other batches, and so another profile."""
        sizes = {"batch_tokens": tokens, "batch_images": images}
        return replace(self, profile=self.profile.model_copy(update=sizes))

    def recut(self, ready: ReadyRows) -> ReadyRows:
        """Rows that an encoder with other batches has prepared, in batches of this one."""
        return replace(ready, batches=self._batches(ready.prepared, ready.count))

    def limit_lanes(self, lanes: int) -> None:
        """Have no more than so many, and no more processes than they need that decode images.

        Memory that waits for arrays is freed.
        """
        if lanes < self.lanes:
            self.binding.decoder.limit(lanes * self.profile.threads)
        self.sessions.limit(lanes)
        for feed in self.binding.images:
            feed.arrays.free()

    def start_decoders(self, most: int | None = None) -> None:
        """Start the processes that decode images, or so many, if it reads any, before the first one.

        Raises:
            DecodersFailed: One cannot be started.
        """
        self.binding.decoder.start([feed.spec for feed in self.binding.images], most)

    def close(self) -> None:
        """End the processes that decode images; the next image would start new ones."""
        self.binding.decoder.close()

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _batches(self, prepared: Prepared, rows: int) -> list[Rows]:
        limit = rows if self.binding.texts else self.profile.batch_tokens
        limit = self.profile.batch_images if self.binding.files else limit
        return pack(
            prepared.lengths(rows), self.profile.batch_tokens, most_rows=limit, mixed=self.binding.masked
        )

    def _computed(self, run: Run, fed: Fed) -> Computed:
        """The vectors of a batch, and the rows of it that the model refuses: their vectors are zero."""
        rows, refused = len(fed.rows), dict[int, Rejection]()
        if rows and not self.binding.raw:
            return self._checked(run(fed.feeds), rows), refused
        if rows:
            vectors, refused = run_apart(run, fed.feeds, rows)
            if len(refused) < rows:
                return self._checked(vectors, rows), refused
        return np.zeros((rows, self.dimension), np.float32), refused

    def _work(self, on_batch: Callable[[int], None] | None) -> tuple[int, Callable[[Fed], Computed]]:
        """Lanes, and what each does; a runtime that may wait for long says so to `on_batch` meanwhile."""
        runtime = self.runtime
        if on_batch is not None and isinstance(runtime, Waiting):
            return 1, partial(self._computed, lambda feeds: runtime.run_watched(feeds, lambda: on_batch(0)))
        return self.lanes, partial(self._computed, runtime.run) if self.lanes == 1 else self.in_lane

    def in_lane(self, fed: Fed) -> Computed:
        """A batch, computed by a session that nobody else has meanwhile."""
        with self.sessions.one() as further:
            return self._computed((further or self.runtime).run, fed)

    def in_lane_early(self, fed: Fed, wanted: Callable[[], bool]) -> Computed:
        """The same, of a batch whose turn has not come: whether it is still `wanted` is seen with a session.

        Raises:
            CancelledError: It is not, or another batch had an error meanwhile.
        """
        with self.sessions.one() as further:
            if wanted() and not self.sessions.failed:
                return self._computed((further or self.runtime).run, fed)
        raise CancelledError

    def _checked(self, computed: Vectors, rows: int) -> Vectors:
        if computed.shape != (rows, self.dimension):
            raise _wrong_dimension(self.package, self.runtime, list(computed.shape), f"for {rows} rows")
        return computed


def _check_output(package: ModelPackage, runtime: Runtime) -> None:
    """Fail at load rather than in the first batch, where the model says its output's shape."""
    shape = runtime.output.shape
    width = shape[-1] if shape else None
    if shape and (len(shape) != 2 or (isinstance(width, int) and width != package.spec.dimension)):
        raise _wrong_dimension(package, runtime, list(shape), "")


def _wrong_dimension(
    package: ModelPackage, runtime: Runtime, shape: Sequence[int | str | None], when: str
) -> ModelError:
    outputs = ", ".join(map(str, runtime.outputs.values()))
    return ModelError(
        f"{package.root}: model.yaml declares dimension {package.spec.dimension}, and output "
        f"{runtime.output.name!r} has the shape {list(shape)} {when}".rstrip(),
        hint=f"correct the dimension, or name another output; there are: {outputs}",
    )


def _libraries(binding: Binding) -> dict[str, str]:
    found = {"tokenizers": tokens.VERSION} if binding.texts else {}
    return found | (images.decoder_versions() if binding.images else {})


def _not_finite(computed: Vectors, rows: Rows) -> dict[int, Rejection]:
    bad = ~np.isfinite(computed)
    found, of = np.flatnonzero(bad.any(axis=1)), f"of {computed.shape[1]} values"
    return {
        int(rows[at]): Rejection(Reason.NOT_FINITE, f"NaN or infinity in {bad[at].sum()} {of}")
        for at in found
    }


def _l2(vectors_ND: Vectors) -> Vectors:
    """Unit length; a zero vector stays zero, for the gates to find."""
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # rows that are not finite are rejected by their caller
        norms = np.sqrt(np.einsum("nd,nd->n", vectors_ND, vectors_ND, dtype=np.float64))
        return vectors_ND / np.where(norms > 0, norms, 1.0).astype(np.float32)[:, None]
