"""`runtimes:` of `model.yaml`: one section for each way to compute a model, told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias, get_args

from pydantic import Field, field_validator, model_validator

from embedmill.spec.address import check_address
from embedmill.spec.section import Section

EncoderName: TypeAlias = Literal["item", "query_text", "query_image"]
Precision: TypeAlias = Literal["float32", "tf32", "float16", "bfloat16"]
"""`float32` keeps TF32 off; the others say what multiplications may be rounded to."""


class RuntimeSection(Section):
    """What the sections of all kinds share.

    `DEFINING` names the keys that change vectors, beside the contents of files: they are part of the
    encoder digest.
    """

    DEFINING: ClassVar[tuple[str, ...]] = ("kind", "output")
    ADDED: ClassVar[frozenset[str]] = frozenset()
    """Defining keys that came later: where they are as by default, digests know nothing of them."""
    EXTRA: ClassVar[str]
    """The extra with its library."""

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

    def defining(self) -> dict[str, Any]:
        """What of the section changes vectors, beside the contents of files."""
        by_default = {key for key in self.ADDED if getattr(self, key) == type(self).model_fields[key].default}
        return self.model_dump(mode="json", include=set(self.DEFINING) - by_default)

    @property
    def model_name(self) -> str:
        """What is loaded or asked, for people."""
        return str(self.path)


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


Dimensions: TypeAlias = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


class ShapeRange(Section):
    """Shapes of one input that an engine of TensorRT is built for; `opt` is the one it is fastest at."""

    min: Dimensions = Field(description="The smallest shape, such as [1, 1].")
    opt: Dimensions = Field(description="The shape that is tuned for.")
    max: Dimensions = Field(description="The largest shape, such as [512, 256].")

    @model_validator(mode="after")
    def _ascending(self) -> ShapeRange:
        if not len(self.min) == len(self.opt) == len(self.max):
            raise ValueError("min, opt and max must have as many dimensions as each other")
        if any(
            not low <= usual <= high for low, usual, high in zip(self.min, self.opt, self.max, strict=True)
        ):
            raise ValueError("min, opt and max must ascend in every dimension")
        return self


class OnnxSpec(FileRuntime):
    """An ONNX file, computed by ONNX Runtime.

    On GPUs by CUDA or, with `tensorrt`, by TensorRT. Whether it is TensorRT changes vectors; `shapes` and the
    limit of memory choose among ways to compute the same, so that they are no part of digests.
    """

    DEFINING: ClassVar[tuple[str, ...]] = (*RuntimeSection.DEFINING, "tensorrt")
    ADDED: ClassVar[frozenset[str]] = frozenset({"tensorrt"})
    EXTRA = "onnx"

    kind: Literal["onnx"]
    tensorrt: bool = Field(default=False, description="On GPUs, compute by TensorRT instead of CUDA.")
    shapes: dict[str, ShapeRange] = Field(
        default_factory=dict, description="With `tensorrt`: the shapes of every input with a free dimension."
    )
    memory_limit_mib: int | None = Field(
        default=None, ge=1, description="Most GPU memory, in MiB, of ONNX Runtime's arena."
    )

    @model_validator(mode="after")
    def _shapes_are_of_tensorrt(self) -> OnnxSpec:
        if self.shapes and not self.tensorrt:
            raise ValueError("onnx: `shapes` are those of TensorRT: add `tensorrt: true`, or leave them out")
        for name in self.shapes:
            if not name or set(name) & set(":,"):
                raise ValueError(f"onnx: shapes: TensorRT cannot be told of an input called {name!r}")
        return self


class TensorFlowSpec(FolderRuntime):
    """A SavedModel, computed by TensorFlow."""

    DEFINING: ClassVar[tuple[str, ...]] = (*RuntimeSection.DEFINING, "signature", "xla")
    EXTRA = "tensorflow"

    kind: Literal["tensorflow"]
    output: str | None = Field(
        default=None, description="Name of the vectors' output; the first by name where absent."
    )
    signature: str = Field(default="serving_default", description="The signature that is computed.")
    xla: bool = Field(default=False, description="Compile with XLA, once for each shape of a batch.")
    memory_limit_mib: int | None = Field(
        default=None, ge=1, description="Most device memory, in MiB; it grows up to that, as needed."
    )
    allow_ops: tuple[str, ...] = Field(
        default=(), description="Operations that may run though they can do more than compute."
    )


class RemoteRuntime(RuntimeSection):
    """A runtime that asks a server, which has the model.

    Where the server is does not change vectors and differs from place to place, while a package never
    changes: so `url` is only what is asked where the environment variable `VARIABLE` is not set.
    """

    DEFINING: ClassVar[tuple[str, ...]] = ("kind", "output", "model", "version")
    VARIABLE: ClassVar[str]
    """The environment variable that says where the server is."""
    SCHEMES: ClassVar[tuple[str, ...]]
    """How its URL may start."""

    kind: str
    model: str = Field(min_length=1, description="The model's name at the server.")
    version: int = Field(ge=1, description="The model's version at the server; no other is ever asked.")
    url: str | None = Field(
        default=None, description="Where the server is, unless the environment says so; no credentials."
    )
    max_batch: int = Field(
        default=64, ge=1, description="Rows a request at most; the server may allow fewer."
    )
    in_flight: int = Field(default=4, ge=1, description="Requests that one worker has at the server at once.")
    timeout_s: float = Field(default=60.0, gt=0, description="How long one request may take.")
    retry_for_s: float = Field(
        default=180.0, ge=0, description="How long a server that gives no answer is asked again."
    )

    @property
    def model_name(self) -> str:
        """The model's name and version there."""
        return f"{self.model} {self.version}"

    @field_validator("url")
    @classmethod
    def _url_is_an_address(cls, url: str | None) -> str | None:
        if url is not None:
            check_address(url, cls.SCHEMES, credentials=False)
        return url


class TritonSpec(RemoteRuntime):
    """A model at a Triton Inference Server, asked by the KServe v2 protocol."""

    EXTRA = "triton"
    VARIABLE = "EMBEDMILL_TRITON_URL"
    SCHEMES = ("http", "https", "grpc")

    kind: Literal["triton"]


class TfServingSpec(RemoteRuntime):
    """A model at a TensorFlow Serving, asked by its REST API."""

    DEFINING = (*RemoteRuntime.DEFINING, "signature")
    EXTRA = "http"
    VARIABLE = "EMBEDMILL_TF_SERVING_URL"
    SCHEMES = ("http", "https")

    kind: Literal["tf_serving"]
    signature: str = Field(default="serving_default", description="The signature that is called.")


class TorchSpec(FileRuntime):
    """A program of `torch.export` (`.pt2`), computed by PyTorch."""

    EXTRA = "torch"

    kind: Literal["torch"]
    memory_fraction: float | None = Field(
        default=None, gt=0, le=1, description="Share of a GPU's memory that this process may take."
    )
    memory_limit_mib: int | None = Field(
        default=None, ge=1, description="Most GPU memory, in MiB, of PyTorch's allocator."
    )


class OpenVinoSpec(RuntimeSection):
    """An ONNX file, an OpenVINO IR or a SavedModel, computed by OpenVINO on CPUs."""

    EXTRA = "openvino"

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

    EXTRA = "jax"

    kind: Literal["jax"]
    platforms: tuple[Literal["cpu", "cuda", "tpu"], ...] = Field(
        default=("cpu", "cuda", "tpu"), min_length=1, description="What the artifact must be lowered for."
    )
    memory_limit_mib: int | None = Field(
        default=None, ge=1, description="Most GPU memory, in MiB, of XLA's allocator."
    )


def lowest_limit(*limits_mib: int | None) -> int | None:
    """The lowest of several limits of memory; None where there is none."""
    return min((each for each in limits_mib if each is not None), default=None)


RuntimeSpec: TypeAlias = Annotated[
    OnnxSpec | OpenVinoSpec | TensorFlowSpec | TorchSpec | JaxSpec | TritonSpec | TfServingSpec,
    Field(discriminator="kind"),
]
RUNTIMES: tuple[type[RuntimeSection], ...] = (
    OnnxSpec,
    OpenVinoSpec,
    TensorFlowSpec,
    TorchSpec,
    JaxSpec,
    TritonSpec,
    TfServingSpec,
)
"""The sections of all kinds."""
KINDS: tuple[str, ...] = tuple(
    word for each in RUNTIMES for word in get_args(each.model_fields["kind"].annotation)
)
"""What `kind` may say."""
