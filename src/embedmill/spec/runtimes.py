"""`runtimes:` of `model.yaml`: one section for each way to compute a model, told apart by `kind`."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from pydantic import Field

from embedmill.spec.pipeline import Section

EncoderName: TypeAlias = Literal["item", "query_text", "query_image"]


class FileRuntime(Section):
    """A runtime that loads a file of the package.

    `DEFINING` names the keys that change vectors, beside the contents of files: they are part of the
    encoder digest.
    """

    DEFINING: ClassVar[tuple[str, ...]] = ("kind", "output")

    file: str = Field(description="A file in the package.")
    output: str | None = Field(
        default=None, description="Name of the vectors' output; the first where absent."
    )
    encoders: tuple[EncoderName, ...] | None = Field(
        default=None, description="Encoders that this computes; all where absent."
    )


class OnnxSpec(FileRuntime):
    """An ONNX file, computed by ONNX Runtime."""

    kind: Literal["onnx"]


RuntimeSpec: TypeAlias = OnnxSpec
