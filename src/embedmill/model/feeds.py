"""Binds what model.yaml declares to what the runtime expects, and makes the arrays that feed it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embedmill.arrow import byte_views
from embedmill.errors import ModelError
from embedmill.model.arrays import Arrays
from embedmill.model.columns import file_column
from embedmill.model.feeding import (
    ANY_SIZE,
    NUMBERS,
    Feed,
    Feeds,
    Ready,
    dtype_problems,
    number_problems,
    present,
    shape_problems,
)
from embedmill.model.images import ImageDecoder, Pixels, pixel_shape
from embedmill.model.inputs import rendered
from embedmill.model.package import ModelPackage
from embedmill.model.raw_feeds import BytesFeed, StringFeed
from embedmill.model.tokens import Tokenizer, Tokens
from embedmill.model.value_feeds import BooleanFeed, CategoriesFeed, CategoryFeed, NumberFeed
from embedmill.model.vocabulary import Vocabulary
from embedmill.runtimes import TEXT_ONLY, Runtime, TensorSpec
from embedmill.spec import (
    BooleanInput,
    BytesInput,
    CategoriesInput,
    CategoryInput,
    ImageInput,
    NumberInput,
    OtherInput,
    StringInput,
    TextInput,
)
from embedmill.types import Mask, Reason, Rejection, Rows

Columns: TypeAlias = list[list[memoryview | None]]
"""Images of rows, where the catalog's rows have them: for each column, those of its rows."""


@dataclass(frozen=True)
class TextFeed:
    """Feeds token ids to `target`, and mask and segment ids to the inputs of those names that there are."""

    target: TensorSpec
    spec: TextInput
    tokenizer: Tokenizer
    mask: TensorSpec | None
    type_ids: TensorSpec | None

    @property
    def targets(self) -> Sequence[TensorSpec]:
        """See `Feed`."""
        return present(self.target, self.mask, self.type_ids)

    @property
    def width(self) -> int | None:
        """Tokens a row that the model insists on, if it does."""
        size = self.target.shape[1] if len(self.target.shape) > 1 else None
        return size if isinstance(size, int) else None

    def problems(self) -> Iterator[str]:
        """See `Feed`."""
        yield from dtype_problems(self.target, "token ids", ["int64", "int32"])
        if self.width is not None and self.spec.max_length > self.width:
            yield f"max_length {self.spec.max_length} does not fit the model's input {self.target}"
        yield from shape_problems(self.target, "token ids", [(self.width,)])
        for beside in present(self.mask, self.type_ids):  # ids of any width have masks of any width
            yield from number_problems(beside, "masks and segment ids")
            yield from shape_problems(beside, "masks and segment ids", [(self.width or ANY_SIZE,)])

    def prepare(self, rows: pa.RecordBatch) -> Ready:
        """See `Feed`."""
        tokens = self.tokenizer.tokenize(rendered(self.spec.template, rows).tolist())
        return Ready(lambda batch: self._feed(tokens, batch), lengths=tokens.lengths)

    def _feed(self, tokens: Tokens, rows: Rows) -> Feeds:
        batch = tokens.batch(rows, width=self.width)
        pairs = ((self.target, batch.ids_NT), (self.mask, batch.mask_NT), (self.type_ids, batch.type_ids_NT))
        return {spec.name: array.astype(spec.dtype, copy=False) for spec, array in pairs if spec is not None}


class FedImages(NamedTuple):
    """What the images of N rows became; `thumbnails` has the first one of each row, if such are made."""

    feeds: Feeds
    rejected: dict[int, Rejection]
    thumbnails: dict[int, bytes]


class Fed(NamedTuple):
    """A batch: its arrays, its rows, those left out because a value is not usable, and thumbnails by row."""

    feeds: Feeds
    rows: Rows
    rejected: dict[int, Rejection]
    thumbnails: dict[int, bytes]


@dataclass(frozen=True)
class ImageFeed:
    """Feeds pixels to `target`, and which images there are to `mask`.

    Where `optional`, a row without any image is all zeros: its other inputs say something. Where images of
    a row come from several columns, of this input or of others, `names_column`: what is refused says which.
    """

    target: TensorSpec
    spec: ImageInput
    mask: TensorSpec | None
    optional: bool
    names_column: bool
    arrays: Arrays = field(default_factory=Arrays, repr=False, compare=False)

    @property
    def targets(self) -> Sequence[TensorSpec]:
        """The runtime's inputs that this feeds."""
        return present(self.target, self.mask)

    @property
    def several(self) -> bool:
        """Whether a row has K images, and an axis for them."""
        return not isinstance(self.spec.field, str)

    def problems(self) -> Iterator[str]:
        """In what the declaration and the runtime's inputs do not fit each other."""
        count = (len(self.spec.fields),) if self.several else ()
        yield from shape_problems(self.target, "images", [(*count, *pixel_shape(self.spec))])
        yield from dtype_problems(self.target, "pixels", ["float32", "float16", "uint8"])
        if self.target.dtype == "uint8" and not self.spec.is_as_decoded:
            whole = "set `scale: 1`, and neither `mean` nor `std`"
            yield f"scaled pixels are fractions, and the model's input is {self.target}: {whole}"
        if self.mask is not None:
            yield from shape_problems(self.mask, "masks of images", [count])
            yield from dtype_problems(self.mask, "masks", NUMBERS)

    def read(self, rows: pa.RecordBatch) -> Columns:
        """The image columns of N rows."""
        return [byte_views(file_column(rows, field)) for field in self.spec.fields]

    def feed(self, columns: Columns, decoder: ImageDecoder) -> FedImages:
        """The arrays of the images of a batch, and the rows of it that have none that can be used."""
        files = {
            (row, place): image
            for place, column in enumerate(columns)
            for row, image in enumerate(column)
            if image
        }
        there: Mask = np.array([[bool(image) for image in column] for column in columns]).T
        rejected = self._without(there)
        pixels = self.arrays.take((*there.shape, *pixel_shape(self.spec)))
        pixels[~there] = 0.0
        found = decoder.decode(list(files.values()), self.spec, [pixels[at] for at in files])
        thumbnails: dict[int, bytes] = {}
        for (row, place), made in zip(files, found, strict=True):
            if isinstance(made, Rejection):
                pixels[row, place] = 0.0
                rejected.setdefault(row, self._said(made, place))
            elif made.thumbnail is not None:
                thumbnails.setdefault(row, made.thumbnail)
        return FedImages(self._arrays(pixels, there), rejected, thumbnails)

    def _without(self, there: Mask) -> dict[int, Rejection]:
        if self.optional and self.spec.missing == "zeros":
            return {}
        enough = there.any(axis=1) if self.spec.missing == "zeros" else there.all(axis=1)
        lacking = np.flatnonzero(~enough).tolist()
        first = {row: self.spec.fields[int(np.argmin(there[row]))] for row in lacking}
        return {
            row: Rejection(Reason.IMAGE_MISSING, f"column {field!r} has no image")
            for row, field in first.items()
        }

    def _said(self, why: Rejection, place: int) -> Rejection:
        """One of several images needs its column named."""
        if not self.names_column:
            return why
        return why._replace(detail=f"column {self.spec.fields[place]!r}: {why.detail}")

    def _arrays(self, pixels: Pixels, there: Mask) -> Feeds:
        shaped, mask = (pixels, there) if self.several else (pixels[:, 0], there[:, 0])
        feeds: Feeds = {self.target.name: shaped.astype(self.target.dtype, copy=False)}
        if self.mask is not None:
            flat = mask.astype(self.mask.dtype)
            feeds[self.mask.name] = flat.reshape(-1, 1) if flat.ndim < len(self.mask.shape) else flat
        return feeds


@dataclass(frozen=True)
class Prepared:
    """N rows made ready: images wait as bytes, all else for its batch."""

    ready: Sequence[Ready]
    images: Sequence[Columns]

    def lengths(self, rows: int) -> npt.NDArray[np.int64]:
        """Tokens of each row's longest text; zero without texts."""
        longest = np.zeros(rows, np.int64)
        for each in self.ready:
            longest = longest if each.lengths is None else np.maximum(longest, each.lengths)
        return longest


@dataclass(frozen=True)
class Binding:
    """All feeds of one encoder."""

    feeds: Sequence[Feed]
    images: Sequence[ImageFeed]
    decoder: ImageDecoder

    @property
    def texts(self) -> Sequence[TextFeed]:
        """Those of tokens."""
        return [feed for feed in self.feeds if isinstance(feed, TextFeed)]

    @property
    def masked(self) -> bool:
        """Whether every text can be padded without the model noticing."""
        return all(feed.mask is not None or feed.width is not None for feed in self.texts)

    @property
    def files(self) -> bool:
        """Whether rows have images or other files, which are large."""
        return bool(self.images) or any(isinstance(feed, BytesFeed) for feed in self.feeds)

    @property
    def raw(self) -> bool:
        """Whether the model takes inputs apart itself, and may stumble over one."""
        return any(isinstance(feed, StringFeed | BytesFeed) for feed in self.feeds)

    def prepare(self, rows: pa.RecordBatch) -> Prepared:
        """Tokenize all texts and read all values; images wait as bytes."""
        return Prepared(
            [feed.prepare(rows) for feed in self.feeds], [feed.read(rows) for feed in self.images]
        )

    def feed(self, prepared: Prepared, rows: Rows) -> Fed:
        """Make one batch of some of the prepared rows."""
        rejected = _rejected(prepared.ready, rows)
        batch = self._pixels(prepared, _without(rows, rejected))
        rejected |= batch.rejected
        if len(batch.rows) == 0:
            return Fed({}, batch.rows, rejected, {})
        for ready in prepared.ready:
            batch.feeds.update(ready.feed(batch.rows))
        return batch._replace(rejected=rejected)

    def _pixels(self, prepared: Prepared, rows: Rows) -> Fed:
        """The arrays of images, and the rows in them."""
        batch = Fed({}, rows, {}, {})
        if len(rows) == 0:
            return batch
        for feed, images in zip(self.images, prepared.images, strict=True):
            made = feed.feed([[column[row] for row in rows] for column in images], self.decoder)
            batch.feeds.update(made.feeds)
            for at, why in made.rejected.items():
                batch.rejected.setdefault(int(rows[at]), why)
            for at, thumbnail in made.thumbnails.items():
                batch.thumbnails.setdefault(int(rows[at]), thumbnail)
        if not batch.rejected:
            return batch
        kept = _without(rows, batch.rejected)
        at_kept = np.flatnonzero(np.isin(rows, kept))
        return batch._replace(feeds={name: array[at_kept] for name, array in batch.feeds.items()}, rows=kept)


def _rejected(ready: Sequence[Ready], rows: Rows) -> dict[int, Rejection]:
    """Rows of a batch with an unusable value; what was declared first is what is said."""
    found: dict[int, Rejection] = {}
    for each in ready:
        if each.rejected:
            found = {row: each.rejected[row] for row in rows.tolist() if row in each.rejected} | found
    return found


def _without(rows: Rows, rejected: Mapping[int, Rejection]) -> Rows:
    return np.array([row for row in rows.tolist() if row not in rejected], np.int64) if rejected else rows


def bind(package: ModelPackage, encoder: str, runtime: Runtime, decoder: ImageDecoder) -> Binding:
    """Match an encoder's declared inputs with the runtime's.

    Raises:
        ModelError: An input has no counterpart, gets two arrays, or has another shape or type; or a tokenizer
            or vocabulary is damaged.
    """
    declared = package.inputs(encoder).root
    missing = [name for name in _named(package, encoder) if name not in runtime.inputs]
    if missing:
        raise _mismatch(package, encoder, runtime, f"the model has no input {', '.join(missing)}")
    kinds = {name: spec.kind for name, spec in declared.items()}
    feeds = [
        _feed(package, runtime, name, kind)
        for name, kind in kinds.items()
        if not isinstance(kind, ImageInput)
    ]
    columns = [field for kind in kinds.values() if isinstance(kind, ImageInput) for field in kind.fields]
    optional, several = len(declared) > 1, len(columns) > 1
    images = [
        ImageFeed(runtime.inputs[name], kind, runtime.inputs.get(kind.mask or ""), optional, several)
        for name, kind in kinds.items()
        if isinstance(kind, ImageInput)
    ]
    every: list[Feed | ImageFeed] = [*feeds, *images]
    fed = [target.name for feed in every for target in feed.targets]
    unfed = [name for name in runtime.inputs if name not in fed]
    twice = sorted({name for name in fed if fed.count(name) > 1})
    if unfed:
        raise _mismatch(package, encoder, runtime, f"nothing feeds the model's input {', '.join(unfed)}")
    if twice:
        raise _mismatch(package, encoder, runtime, f"two inputs feed {', '.join(twice)}")
    for feed in every:
        for problem in feed.problems():
            raise ModelError(f"{package.root}: encoder {encoder!r}: {problem}")
    return Binding(feeds, images, decoder)


def _named(package: ModelPackage, encoder: str) -> Iterator[str]:
    """Inputs that the model must have; those of a text's mask and segments it may have."""
    for name, spec in package.inputs(encoder).root.items():
        yield name
        if spec.kind.beside is not None:
            yield spec.kind.beside


def _feed(package: ModelPackage, runtime: Runtime, name: str, kind: OtherInput) -> Feed:
    inputs = runtime.inputs
    target, beside = inputs[name], inputs.get(kind.beside or "")
    match kind:
        case TextInput():
            tokenizer = Tokenizer.load(package.path(kind.tokenizer), max_length=kind.max_length)
            return TextFeed(target, kind, tokenizer, inputs.get(kind.mask), inputs.get(kind.type_ids))
        case CategoryInput():
            return CategoryFeed(target, kind, Vocabulary.load(package.path(kind.vocabulary)))
        case CategoriesInput():
            return CategoriesFeed(target, kind, Vocabulary.load(package.path(kind.vocabulary)), beside)
        case NumberInput():
            return NumberFeed(target, kind, beside)
        case BooleanInput():
            return BooleanFeed(target, kind)
        case StringInput():
            return StringFeed(target, kind)
        case BytesInput():
            return BytesFeed(target, kind, beside, runtime.name in TEXT_ONLY)


def _mismatch(package: ModelPackage, encoder: str, runtime: Runtime, what: str) -> ModelError:
    declared = ", ".join(package.inputs(encoder).root)
    there = "; ".join(map(str, runtime.inputs.values()))
    return ModelError(
        f"{package.root}: encoder {encoder!r}: {what}",
        hint=f"model.yaml declares: {declared}; the model has: {there}",
    )
