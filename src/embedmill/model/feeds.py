"""Binds what model.yaml declares to what the runtime expects, and makes the arrays that feed it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embedmill.errors import ModelError
from embedmill.model.images import ImageDecoder, Pixels, pixel_shape
from embedmill.model.inputs import image_bytes, render
from embedmill.model.package import ModelPackage
from embedmill.model.tokens import Tokenizer, Tokens
from embedmill.runtimes import Runtime, TensorSpec
from embedmill.spec import ImageInput, TextInput
from embedmill.types import Reason, Rejection, Rows

Feeds = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class TextFeed:
    """Feeds token ids to `target`, and mask and segment ids to the inputs of those names that there are."""

    target: TensorSpec
    spec: TextInput
    tokenizer: Tokenizer
    mask: TensorSpec | None
    type_ids: TensorSpec | None

    @property
    def targets(self) -> list[str]:
        """Names of the runtime's inputs that this feeds."""
        return [spec.name for spec in (self.target, self.mask, self.type_ids) if spec is not None]

    @property
    def width(self) -> int | None:
        """Tokens a row that the model insists on, if it does."""
        size = self.target.shape[1] if len(self.target.shape) > 1 else None
        return size if isinstance(size, int) else None

    def tokenize(self, rows: pa.RecordBatch) -> Tokens:
        """Tokens of N rows."""
        return self.tokenizer.tokenize(
            render(self.spec.template, rows).to_numpy(zero_copy_only=False).tolist()
        )

    def feed(self, tokens: Tokens, rows: Rows) -> Feeds:
        """The arrays of one batch."""
        batch = tokens.batch(rows, width=self.width)
        pairs = ((self.target, batch.ids_NT), (self.mask, batch.mask_NT), (self.type_ids, batch.type_ids_NT))
        return {spec.name: array.astype(spec.dtype, copy=False) for spec, array in pairs if spec is not None}


@dataclass(frozen=True)
class ImageFeed:
    """Feeds pixels to `target`.

    Where `optional`, a missing image is all zeros: the row's other inputs say something.
    """

    target: TensorSpec
    spec: ImageInput
    optional: bool

    def pixels(self, images: Sequence[bytes | None], decoder: ImageDecoder) -> Iterator[Pixels | Rejection]:
        """Each image's pixels, or why there are none."""
        decoded = iter(decoder.decode([image for image in images if image], self.spec))
        for image in images:
            yield next(decoded) if image else self._without()

    def _without(self) -> Pixels | Rejection:
        if self.optional:
            return np.zeros(pixel_shape(self.spec), np.float32)
        return Rejection(Reason.IMAGE_MISSING, f"column {self.spec.field!r} has no image")


@dataclass(frozen=True)
class Prepared:
    """N rows made ready: tokens by feed, image bytes by feed."""

    tokens: Mapping[str, Tokens]
    images: Mapping[str, pa.Array]

    def lengths(self, rows: int) -> npt.NDArray[np.int64]:
        """Tokens of each row's longest text; zero without texts."""
        longest = np.zeros(rows, np.int64)
        for tokens in self.tokens.values():
            longest = np.maximum(longest, tokens.lengths)
        return longest


@dataclass(frozen=True)
class Binding:
    """All feeds of one encoder."""

    texts: Sequence[TextFeed]
    images: Sequence[ImageFeed]
    decoder: ImageDecoder

    @property
    def masked(self) -> bool:
        """Whether every text can be padded without the model noticing."""
        return all(feed.mask is not None or feed.width is not None for feed in self.texts)

    def prepare(self, rows: pa.RecordBatch) -> Prepared:
        """Tokenize all texts; images wait as bytes."""
        return Prepared(
            {feed.target.name: feed.tokenize(rows) for feed in self.texts},
            {feed.target.name: image_bytes(feed.spec, rows) for feed in self.images},
        )

    def feed(self, prepared: Prepared, rows: Rows) -> tuple[Feeds, Rows, dict[int, Rejection]]:
        """The arrays of one batch, the rows in it, and those left out because an image is not usable."""
        columns, rejected = self._pixels(prepared, rows)
        kept = np.array([row for row in rows.tolist() if row not in rejected], np.int64)
        feeds: Feeds = {}
        if len(kept) == 0:
            return feeds, kept, rejected
        for text in self.texts:
            feeds |= text.feed(prepared.tokens[text.target.name], kept)
        for image in self.images:
            stack = np.stack([columns[image.target.name][row] for row in kept.tolist()])
            feeds[image.target.name] = stack.astype(image.target.dtype, copy=False)
        return feeds, kept, rejected

    def _pixels(
        self, prepared: Prepared, rows: Rows
    ) -> tuple[dict[str, dict[int, Pixels]], dict[int, Rejection]]:
        columns: dict[str, dict[int, Pixels]] = {}
        rejected: dict[int, Rejection] = {}
        for feed in self.images:
            found = columns.setdefault(feed.target.name, {})
            data = prepared.images[feed.target.name].take(pa.array(rows)).to_pylist()
            for row, made in zip(rows.tolist(), feed.pixels(data, self.decoder), strict=True):
                if isinstance(made, Rejection):
                    rejected[row] = made
                else:
                    found[row] = made
        return columns, rejected


def bind(package: ModelPackage, encoder: str, runtime: Runtime, decoder: ImageDecoder) -> Binding:
    """Match an encoder's declared inputs with the runtime's.

    Raises:
        ModelError: An input has no counterpart, gets two arrays, or has another shape or type.
    """
    declared = package.inputs(encoder).root
    missing = [name for name in declared if name not in runtime.inputs]
    if missing:
        raise _mismatch(package, encoder, runtime, f"the model has no input {', '.join(missing)}")
    texts: list[TextFeed] = [
        _text(package, runtime, name, s.text) for name, s in declared.items() if s.text is not None
    ]
    several = len(declared) > 1
    pictures = [
        ImageFeed(runtime.inputs[name], s.image, several)
        for name, s in declared.items()
        if s.image is not None
    ]
    binding = Binding(texts, pictures, decoder)
    fed = [name for text in texts for name in text.targets] + [image.target.name for image in pictures]
    unfed = [name for name in runtime.inputs if name not in fed]
    twice = sorted({name for name in fed if fed.count(name) > 1})
    if unfed:
        raise _mismatch(package, encoder, runtime, f"nothing feeds the model's input {', '.join(unfed)}")
    if twice:
        raise _mismatch(package, encoder, runtime, f"two inputs feed {', '.join(twice)}")
    for problem in _problems(binding):
        raise ModelError(f"{package.root}: encoder {encoder!r}: {problem}")
    return binding


def _mismatch(package: ModelPackage, encoder: str, runtime: Runtime, what: str) -> ModelError:
    declared = ", ".join(package.inputs(encoder).root)
    there = "; ".join(map(str, runtime.inputs.values()))
    return ModelError(
        f"{package.root}: encoder {encoder!r}: {what}",
        hint=f"model.yaml declares: {declared}; the model has: {there}",
    )


def _text(package: ModelPackage, runtime: Runtime, name: str, spec: TextInput) -> TextFeed:
    tokenizer = Tokenizer.load(package.path(spec.tokenizer), max_length=spec.max_length)
    inputs = runtime.inputs
    return TextFeed(inputs[name], spec, tokenizer, inputs.get(spec.mask), inputs.get(spec.type_ids))


def _problems(binding: Binding) -> Iterator[str]:
    for text in binding.texts:
        if text.target.dtype not in ("int64", "int32"):
            yield f"token ids are integers, and the model's input is {text.target}"
        if text.width is not None and text.spec.max_length > text.width:
            yield f"max_length {text.spec.max_length} does not fit the model's input {text.target}"
        yield from _fixed_batch(text.target)
    for image in binding.images:
        shape = pixel_shape(image.spec)
        wanted = image.target.shape[1:]
        fits = len(wanted) == len(shape) and all(
            not isinstance(size, int) or size == made for size, made in zip(wanted, shape, strict=True)
        )
        if not fits:
            yield f"model.yaml makes images of shape {list(shape)}, and the model's input is {image.target}"
        if image.target.dtype not in ("float32", "float16", "uint8"):
            yield f"pixels are float32, float16 or uint8, and the model's input is {image.target}"
        yield from _fixed_batch(image.target)


def _fixed_batch(target: TensorSpec) -> Iterator[str]:
    if target.shape and isinstance(target.shape[0], int):
        yield f"the model's input has a fixed number of rows, {target}; export it with a free first dimension"
