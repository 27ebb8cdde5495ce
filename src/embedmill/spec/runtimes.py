"""`runtimes:` of `model.yaml`: one section for each way to compute a model, told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field

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


class TensorFlowSpec(FolderRuntime):
    """A signature of a SavedModel, computed by TensorFlow."""

    DEFINING = ("kind", "output", "signature", "xla")

    kind: Literal["tensorflow"]
    signature: str = Field(default="serving_default", description="The signature that is called.")
    memory_limit_mib: int | None = Field(
        default=None, ge=64, description="Most memory of a GPU, in MiB; it grows as needed where absent."
    )
    xla: bool = Field(default=False, description="Compile the signature by XLA, for each shape of a batch.")
    allow_ops: tuple[str, ...] = Field(
        default=(), description="Operations beyond those that cannot leave the graph; they run as this user."
    )


RuntimeSpec: TypeAlias = Annotated[OnnxSpec | TensorFlowSpec, Field(discriminator="kind")]
RUNTIMES: tuple[type[RuntimeSection], ...] = (OnnxSpec, TensorFlowSpec)
"""The sections of all kinds."""
