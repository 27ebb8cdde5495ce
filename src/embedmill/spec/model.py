"""`model.yaml`, at the root of a model package: what the model sees, and what computes it."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, RootModel, model_validator

from embedmill.spec.inputs import BytesInput, ImageInput, InputSpec, StringInput, TextInput
from embedmill.spec.pipeline import Name, Section
from embedmill.spec.runtimes import EncoderName, Precision, RuntimeSpec


class EncoderInputs(RootModel[dict[str, InputSpec]]):
    """The inputs of one encoder, by the name that the runtime knows."""

    @model_validator(mode="after")
    def _not_empty(self) -> EncoderInputs:
        if not self.root:
            raise ValueError("an encoder needs at least one input")
        return self

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Columns that the encoder reads, in order of first use."""
        return tuple(dict.fromkeys(field for spec in self.root.values() for field in spec.kind.fields))

    @property
    def image_fields(self) -> tuple[str, ...]:
        """Those of them that hold images or other files: bytes, or references to them."""
        kinds = [spec.kind for spec in self.root.values()]
        files = [kind for kind in kinds if isinstance(kind, ImageInput | BytesInput)]
        return tuple(dict.fromkeys(field for kind in files for field in kind.fields))

    @cached_property
    def text_field(self) -> str | None:
        """The only column, where the encoder reads one and makes nothing but texts of it."""
        texts = all(isinstance(spec.kind, TextInput | StringInput) for spec in self.root.values())
        return self.fields[0] if texts and len(self.fields) == 1 else None


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

    @property
    def assets(self) -> list[str]:
        """Files of the package that inputs name, sorted: tokenizers and vocabularies."""
        kinds = [spec.kind for each in self.encoders.values() for spec in each.root.values()]
        return sorted({kind.file for kind in kinds if kind.file is not None})

    def runtimes_for(self, encoder: str) -> tuple[RuntimeSpec, ...]:
        """The runtimes that compute this encoder, the best first; the first is its reference.

        Raises:
            ValueError: None does.
        """
        found = tuple(r for r in self.runtimes if r.encoders is None or encoder in r.encoders)
        if not found:
            raise ValueError(f"no runtime computes the encoder {encoder!r}")
        return found

    def kinds_for(self, encoder: str) -> tuple[str, ...]:
        """Kinds of the runtimes that compute this encoder: an image for it needs one of them.

        Raises:
            ValueError: None does.
        """
        return tuple(runtime.kind for runtime in self.runtimes_for(encoder))
