"""`runtimes:` of `model.yaml`: one section for each way to compute a model, told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field, model_validator

from embedmill.spec.pipeline import Section

EncoderName: TypeAlias = Literal["item", "query_text", "query_image"]
Precision: TypeAlias = Literal["float32", "tf32", "float16", "bfloat16"]
"""`float32` keeps TF32 off; the others say what multiplications may be rounded to."""


class RuntimeSection(Section):
    """What the sections of all kinds share.

    `DEFINING` names the keys that change vectors, beside the contents of files: they are part of the
    encoder digest.
    """

    DEFINING: ClassVar[tuple[str, ...]] = ("kind", "output")

    output: str | None = Field(
        default=None, description="Name of the vectors' output; the first where absent."
    )
    encoders: tuple[EncoderName, ...] | None = Field(
        default=None, description="Encoders that this computes; all where absent."
    )

    @property
    def path(self) -> str | None:
        """The file or folder of the package that is loaded; None where a server has the model."""
        return None


class FileRuntime(RuntimeSection):
    """A runtime that loads a file of the package."""

    file: str = Field(description="A file in the package.")

    @property
    def path(self) -> str:
        """The file."""
        return self.file


class FolderRuntime(RuntimeSection):
    """A runtime that loads a folder of the package, such as a SavedModel."""

    folder: str = Field(description="A folder in the package.")

    @property
    def path(self) -> str:
        """The folder."""
        return self.folder


class OnnxSpec(FileRuntime):
    """An ONNX file, computed by ONNX Runtime."""

    kind: Literal["onnx"]


class OpenVinoSpec(RuntimeSection):
    """An ONNX file, an OpenVINO IR or a SavedModel, computed by OpenVINO on CPUs."""

    kind: Literal["openvino"]
    file: str | None = Field(default=None, description="An ONNX file, or the .xml of an OpenVINO IR.")
    folder: str | None = Field(default=None, description="A folder with a SavedModel, in place of `file`.")

    @model_validator(mode="after")
    def _one_model(self) -> OpenVinoSpec:
        if (self.file is None) == (self.folder is None):
            raise ValueError("openvino: give either `file` or `folder`")
        return self

    @property
    def path(self) -> str:
        """The file or folder."""
        return str(self.file if self.folder is None else self.folder)


class JaxSpec(FileRuntime):
    """An artifact of `jax.export`, compiled by XLA for the device."""

    kind: Literal["jax"]
    platforms: tuple[Literal["cpu", "cuda", "tpu"], ...] = Field(
        default=("cpu", "cuda", "tpu"), min_length=1, description="What the artifact must be lowered for."
    )


RuntimeSpec: TypeAlias = Annotated[OnnxSpec | OpenVinoSpec | JaxSpec, Field(discriminator="kind")]
RUNTIMES: tuple[type[RuntimeSection], ...] = (OnnxSpec, OpenVinoSpec, JaxSpec)
"""The sections of all kinds."""
