"""The inputs of an encoder in `model.yaml`: what the model is fed, and how that is made of catalog columns.

Shape legend: N rows, T tokens, K images of a row, L values of a list, V values of a vocabulary.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, FiniteFloat, ValidationError, WrapValidator, model_validator

from embedmill.spec.section import Section


def template_fields(template: str) -> tuple[str, ...]:
    """Fields that a template names, in order of first use.

    Raises:
        ValueError: It has a format specification, a conversion, or a part without a name.
    """
    fields: dict[str, None] = {}
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"template {template!r}: {error}") from None
    for _, field, form, conversion in parts:
        if field is None:
            continue
        if not field or form or conversion or any(c in field for c in ".[]"):
            raise ValueError(
                f"template {template!r}: write plain {{field}} names, without formats or indexing"
            )
        fields[field] = None
    return tuple(fields)


def _said_once(allowed: str) -> WrapValidator:
    """One error for a choice between a word and a value, instead of one for each."""

    def check(value: Any, inner: Callable[[Any], Any]) -> Any:
        try:
            return inner(value)
        except ValidationError:
            raise ValueError(f"found {value!r}; write {allowed}") from None

    return WrapValidator(check)


Index: TypeAlias = Annotated[int, Field(ge=0, le=2**24, strict=True)]
"""A row of an embedding table; up to here float32 is exact, in which some models take it."""
UnknownCategory: TypeAlias = Annotated[Literal["reject"] | Index, _said_once("reject or an index")]
MissingCategory: TypeAlias = Annotated[
    Literal["reject", "unknown"] | Index, _said_once("reject, unknown or an index")
]
UnknownOfList: TypeAlias = Annotated[
    Literal["reject", "drop"] | Index, _said_once("reject, drop or an index")
]
MissingNumber: TypeAlias = Annotated[
    Literal["reject"] | Annotated[FiniteFloat, Field(strict=True)], _said_once("reject or a finite number")
]
MissingBoolean: TypeAlias = Annotated[
    Literal["reject"] | Annotated[bool, Field(strict=True)], _said_once("reject, true or false")
]


class Input(Section):
    """What every kind of input says of itself."""

    KIND: ClassVar[str]
    """Its key in model.yaml."""
    FILE: ClassVar[str | None] = None
    """The key that names a file of the package."""
    BESIDE: ClassVar[str | None] = None
    """The key that names another of the model's inputs, which must be there."""
    HINTS: ClassVar[frozenset[str]] = frozenset()
    """Keys that change no vector."""
    ADDED: ClassVar[frozenset[str]] = frozenset()
    """Keys that came after the first release: where they are as by default, digests know nothing of them."""

    @property
    def file(self) -> str | None:
        """The file of the package that the input reads, if it does."""
        return None if self.FILE is None else str(getattr(self, self.FILE))

    @property
    def beside(self) -> str | None:
        """The other input of the model that this feeds, where one is named."""
        return None if self.BESIDE is None else getattr(self, self.BESIDE)

    def defining(self) -> dict[str, Any]:
        """What of the declaration changes vectors; a file is there by its name."""
        by_default = {key for key in self.ADDED if getattr(self, key) == type(self).model_fields[key].default}
        return self.model_dump(mode="json", exclude=by_default | self.HINTS)


class _OneField(Input):
    field: str = Field(description="The column that is read.")

    @property
    def fields(self) -> tuple[str, ...]:
        """Catalog columns that this input reads."""
        return (self.field,)


class _Template(Input):
    template: str = Field(description="Text with {field} names; a null field is an empty text.")

    @model_validator(mode="after")
    def _template_is_plain(self) -> _Template:
        if not template_fields(self.template):
            raise ValueError(f"template {self.template!r} names no field")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """Catalog columns that this input reads."""
        return template_fields(self.template)


class TextInput(_Template):
    """Tokens of a text that a template makes of fields.

    The runtime's input of this name gets int64[N, T] token ids; `mask` and `type_ids` name the inputs
    that get the attention mask and the segment ids, where the model has inputs of those names.
    """

    KIND = "text"
    FILE = "tokenizer"

    tokenizer: str = Field(
        default="tokenizer.json", description="A Hugging Face `tokenizers` file in the package."
    )
    max_length: int = Field(ge=1, description="Tokens kept, special tokens included.")
    mask: str = "attention_mask"
    type_ids: str = "token_type_ids"


class Resize(Section):
    """Scale to `height` x `width`, or the shorter side to `shorter`."""

    shorter: int | None = Field(default=None, ge=1)
    height: int | None = Field(default=None, ge=1)
    width: int | None = Field(default=None, ge=1)
    filter: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"

    @model_validator(mode="after")
    def _one_way(self) -> Resize:
        both = self.height is not None and self.width is not None
        if (self.shorter is not None) == both or (self.height is None) != (self.width is None):
            raise ValueError("resize: give either `shorter`, or both `height` and `width`")
        return self


class Crop(Section):
    """Cut this size from the middle; smaller images are padded with black."""

    height: int = Field(ge=1)
    width: int = Field(ge=1)


class ImageInput(Input):
    """Pixels of images: decode, EXIF orientation, RGB over `background`, resize, crop, scale, normalise.

    The runtime's input of this name gets float32[N, 3, H, W] (`nchw`) or float32[N, H, W, 3] (`nhwc`) of one
    column, and [N, K, …] of a list of K columns. An absent image is zeros.
    """

    KIND = "image"
    BESIDE = "mask"
    ADDED = frozenset({"mask", "missing", "reduced"})
    HINTS = frozenset({"reduced_cosine"})

    field: str | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="The column with the image (bytes, a path, an object key, a URL), or a list of columns."
    )
    resize: Resize
    crop: Crop | None = None
    scale: float = Field(default=1 / 255, description="Pixel values 0..255 are multiplied by this.")
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    layout: Literal["nchw", "nhwc"] = "nchw"
    background: tuple[int, int, int] = Field(
        default=(255, 255, 255), description="Colour under transparency."
    )
    max_pixels: int = Field(
        default=50_000_000, ge=1, description="Larger images are refused before decoding."
    )
    missing: Literal["zeros", "reject"] = Field(
        default="zeros", description="What an absent image is, where the row has anything else to see."
    )
    reduced: float | None = Field(
        default=None, ge=1, allow_inf_nan=False, description="JPEGs are decoded smaller, to `resize` x this."
    )
    reduced_cosine: float | None = Field(default=None, gt=0, le=1, description="The tolerance of `reduced`.")
    mask: str | None = Field(
        default=None, description="The model's input that gets 1 for an image and 0 for none: [N] or [N, K]."
    )

    @model_validator(mode="after")
    def _fixed_size(self) -> ImageInput:
        if self.crop is None and self.resize.shorter is not None:
            raise ValueError("image: `resize: {shorter: …}` leaves the size open; add `crop`")
        if 0.0 in self.std:
            raise ValueError("image: `std` may not be zero")
        if len(set(self.fields)) < len(self.fields):
            raise ValueError("image: `field` names a column twice")
        if (self.reduced is None) != (self.reduced_cosine is None):
            raise ValueError("image: `reduced` and `reduced_cosine`, its tolerance, are given together")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """Catalog columns that this input reads."""
        return (self.field,) if isinstance(self.field, str) else self.field

    @property
    def is_as_decoded(self) -> bool:
        """Whether the model gets whole numbers from 0 to 255, as they are in the image."""
        return self.scale == 1 and not any(self.mean) and set(self.std) == {1.0}


class CategoryInput(_OneField):
    """One of the values of a vocabulary, as int64[N]: the value in line n of the file is `offset` + n - 1.

    Values are texts, integers (as they are written) or booleans (`true`, `false`); null and the empty text
    are missing.
    """

    KIND = "category"
    FILE = "vocabulary"

    vocabulary: str = Field(description="A UTF-8 file of the package, one value a line.")
    offset: Index = Field(default=0, description="The index of the first line.")
    unknown: UnknownCategory = Field(
        default="reject", description="The index of values that the vocabulary lacks, or `reject` the item."
    )
    missing: MissingCategory = Field(
        default="reject", description="The index of a missing value, as an `unknown` one, or `reject`."
    )

    @model_validator(mode="after")
    def _unknown_is_known(self) -> CategoryInput:
        if self.missing == "unknown" and self.unknown == "reject":
            raise ValueError("category: `missing: unknown` needs an index in `unknown`")
        return self


class CategoriesInput(_OneField):
    """Any number of values of a vocabulary: a list column, or texts that a `separator` cuts.

    `padded` feeds int64[N, L] indices, the first `length` in the order of the list; `multi_hot` feeds
    float32[N, V], 1 where the value is in the list. Nulls and empty texts in a list are left out.
    """

    KIND = "categories"
    FILE = "vocabulary"
    BESIDE = "mask"

    vocabulary: str = Field(description="A UTF-8 file of the package, one value a line.")
    offset: Index = Field(default=0, description="The index of the first line.")
    unknown: UnknownOfList = Field(
        default="reject", description="The index of values that the vocabulary lacks, `drop` or `reject`."
    )
    missing: Literal["empty", "reject"] = Field(
        default="empty", description="A row without values is an `empty` list, or rejected."
    )
    separator: str | None = Field(
        default=None, min_length=1, description="Cuts a text into values; white space around them goes."
    )
    encoding: Literal["padded", "multi_hot"] = "padded"
    length: int | None = Field(default=None, ge=1, le=10_000, description="L: values that are kept.")
    padding: Index = Field(default=0, description="The index behind the last value.")
    mask: str | None = Field(
        default=None, description="The model's input that gets 1 for a value and 0 for padding: [N, L]."
    )

    @model_validator(mode="after")
    def _whole(self) -> CategoriesInput:
        padded = self.encoding == "padded"
        if padded and self.length is None:
            raise ValueError("categories: `encoding: padded` needs a `length`")
        if not padded and (self.length is not None or self.mask is not None):
            raise ValueError("categories: `length` and `mask` belong to `encoding: padded`")
        return self


class NumberInput(_OneField):
    """A number as float32[N], or in the type of the model's input: (`transform`(x) - `mean`) / `std`.

    Reads integers, floats and decimals, as the nearest float64. Rejected are integers beyond 2^53, which
    have none of their own, and numbers that the model's type cannot hold.
    """

    KIND = "number"
    BESIDE = "indicator"

    transform: Literal["none", "log1p"] = "none"
    mean: FiniteFloat = Field(default=0.0, description="Subtracted, after the transform.")
    std: FiniteFloat = Field(default=1.0, description="Divided by, after the transform.")
    missing: MissingNumber = Field(
        default="reject", description="The number that stands for null, before the transform, or `reject`."
    )
    not_finite: Literal["reject", "missing"] = Field(
        default="reject", description="Whether NaN and infinities are rejected, or missing."
    )
    indicator: str | None = Field(
        default=None, description="The model's input that gets 1 where the number is missing: [N]."
    )

    @model_validator(mode="after")
    def _divides(self) -> NumberInput:
        if self.std == 0.0:
            raise ValueError("number: `std` may not be zero")
        if self.transform == "log1p" and isinstance(self.missing, float) and self.missing <= -1:
            raise ValueError("number: `missing` is before the transform, and log1p takes numbers above -1")
        if self.indicator is not None and self.missing == "reject":
            raise ValueError("number: an `indicator` needs a number in `missing`")
        return self


class BooleanInput(_OneField):
    """True or false as bool[N], or 1 and 0 in the type of the model's input; reads booleans, and 0 and 1."""

    KIND = "boolean"

    missing: MissingBoolean = Field(default="reject", description="What stands for null, or `reject`.")


class StringInput(_Template):
    """A text as it is, for models that preprocess in the graph: string[N]."""

    KIND = "string"
    HINTS = frozenset({"length_hint", "max_length"})

    missing: Literal["empty", "reject"] = Field(
        default="empty", description="A row whose fields are all empty is an `empty` text, or rejected."
    )
    length_hint: Literal["words", "characters"] | None = Field(
        default=None, description="What a row's cost grows with; rows of about one length share batches."
    )
    max_length: int | None = Field(
        default=None, ge=1, description="Tokens that the model itself cuts at: longer texts cost no more."
    )


class BytesInput(_OneField):
    """A file as it is, such as a JPEG, for models that decode in the graph.

    The column is read as those of images are: bytes, paths, object keys or URLs. An input of strings gets
    string[N]; one of bytes gets uint8[N, B], padded with zeros, and `lengths` the number of each.
    """

    KIND = "bytes"
    BESIDE = "lengths"

    missing: Literal["reject", "empty"] = Field(
        default="reject", description="Whether a row without a file is rejected, or fed `empty` bytes."
    )
    lengths: str | None = Field(
        default=None, description="The model's input that gets the number of bytes of each file: [N]."
    )


OtherInput: TypeAlias = (
    TextInput | CategoryInput | CategoriesInput | NumberInput | BooleanInput | StringInput | BytesInput
)
"""All kinds but images, whose pixels are made in other processes."""
AnyInput: TypeAlias = OtherInput | ImageInput


class InputSpec(Section):
    """One input of the model; exactly one kind."""

    text: TextInput | None = None
    image: ImageInput | None = None
    category: CategoryInput | None = None
    categories: CategoriesInput | None = None
    number: NumberInput | None = None
    boolean: BooleanInput | None = None
    string: StringInput | None = None
    bytes: BytesInput | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> InputSpec:
        if len(self._given) != 1:
            raise ValueError(f"an input is exactly one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def _given(self) -> Mapping[str, AnyInput]:
        kinds = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: kind for name, kind in kinds.items() if kind is not None}

    @property
    def kind(self) -> AnyInput:
        """The one that is there."""
        (chosen,) = self._given.values()
        return chosen
