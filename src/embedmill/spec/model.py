"""`model.yaml`, at the root of a model package: what the model sees, and what computes it."""

from __future__ import annotations

import string
from typing import Annotated, Any, Literal

from pydantic import Field, RootModel, model_validator

from embedmill.spec.pipeline import Name, Section
from embedmill.spec.runtimes import EncoderName, Precision, RuntimeSpec


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


class TextInput(Section):
    """Tokens of a text that a template makes of fields.

    The runtime's input of this name gets int64[N, T] token ids; `mask` and `type_ids` name the inputs
    that get the attention mask and the segment ids, where the model has inputs of those names.
    """

    template: str = Field(description="Text with {field} names; a null field is an empty text.")
    tokenizer: str = Field(
        default="tokenizer.json", description="A Hugging Face `tokenizers` file in the package."
    )
    max_length: int = Field(ge=1, description="Tokens kept, special tokens included.")
    mask: str = "attention_mask"
    type_ids: str = "token_type_ids"

    @model_validator(mode="after")
    def _template_is_plain(self) -> TextInput:
        if not template_fields(self.template):
            raise ValueError(f"template {self.template!r} names no field")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """Catalog columns that this input reads."""
        return template_fields(self.template)


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


class ImageInput(Section):
    """Pixels of one image: decode, EXIF orientation, RGB over `background`, resize, crop, scale, normalise.

    The runtime's input of this name gets float32[N, 3, H, W] (`nchw`) or float32[N, H, W, 3] (`nhwc`).
    """

    field: str = Field(description="The column with the image: bytes, a path, or an object key.")
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

    @model_validator(mode="after")
    def _fixed_size(self) -> ImageInput:
        if self.crop is None and self.resize.shorter is not None:
            raise ValueError("image: `resize: {shorter: …}` leaves the size open; add `crop`")
        if 0.0 in self.std:
            raise ValueError("image: `std` may not be zero")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """Catalog columns that this input reads."""
        return (self.field,)


class InputSpec(Section):
    """One input of the model; exactly one kind."""

    text: TextInput | None = None
    image: ImageInput | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> InputSpec:
        if (self.text is None) == (self.image is None):
            raise ValueError("an input is either `text` or `image`")
        return self

    @property
    def kind(self) -> TextInput | ImageInput:
        """The one that is there."""
        chosen = self.text if self.text is not None else self.image
        if chosen is None:  # excluded by the validator
            raise ValueError("an input is either `text` or `image`")
        return chosen


class EncoderInputs(RootModel[dict[str, InputSpec]]):
    """The inputs of one encoder, by the name that the runtime knows."""

    @model_validator(mode="after")
    def _not_empty(self) -> EncoderInputs:
        if not self.root:
            raise ValueError("an encoder needs at least one input")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """Columns that the encoder reads, in order of first use."""
        return tuple(dict.fromkeys(field for spec in self.root.values() for field in spec.kind.fields))

    @property
    def image_fields(self) -> tuple[str, ...]:
        """Those of them that hold images."""
        return tuple(dict.fromkeys(spec.image.field for spec in self.root.values() if spec.image is not None))


class ModelSpec(Section):
    """What a model package declares. Every file named lies in the package's folder."""

    name: Name
    runtimes: Annotated[tuple[RuntimeSpec, ...], Field(min_length=1)]
    dimension: int = Field(ge=1, description="D: length of a vector.")
    normalize: Literal["none", "l2"] = "none"
    encoders: dict[EncoderName, EncoderInputs]
    precision: Precision = Field(default="float32", description="What vectors are computed in.")
    license: str | None = Field(default=None, description="SPDX expression of the weights' licence.")
    source: str | None = Field(default=None, description="Where the weights came from.")

    @model_validator(mode="before")
    @classmethod
    def _has_item(cls, data: Any) -> Any:
        if (
            isinstance(data, dict)
            and isinstance(data.get("encoders"), dict)
            and "item" not in data["encoders"]
        ):
            raise ValueError("encoders: `item` is missing; it embeds the catalog")
        return data

    @model_validator(mode="after")
    def _computable(self) -> ModelSpec:
        for encoder in self.encoders:
            self.runtimes_for(encoder)
        return self

    def runtimes_for(self, encoder: str) -> tuple[RuntimeSpec, ...]:
        """The runtimes that compute this encoder, the best first; the first is its reference.

        Raises:
            ValueError: None does.
        """
        found = tuple(r for r in self.runtimes if r.encoders is None or encoder in r.encoders)
        if not found:
            raise ValueError(f"no runtime computes the encoder {encoder!r}")
        return found
