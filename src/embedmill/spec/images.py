"""`images.yaml`: container images for workers, and the facts that decide on which GPUs they run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from embedmill.spec.runtimes import KINDS
from embedmill.spec.section import Section, WrongAt, unknown

ImageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
CudaVersion = Annotated[str, Field(pattern=r"^\d{1,2}\.\d{1,2}$")]
Capability = Annotated[str, Field(pattern=r"^\d{1,2}\.\d$")]
DIGEST = r"^[a-z0-9][a-zA-Z0-9._:/-]*@sha256:[0-9a-f]{64}$|^sha256:[0-9a-f]{64}$"


class CompatSpec(Section):
    """The package cuda-compat in an image: a newer driver's libraries, for older drivers of data centres."""

    driver: str = Field(
        pattern=r"^\d{3}(\.\d+){0,2}$", description="The version of its libcuda, such as 570.124.06."
    )
    branches: tuple[int, ...] = Field(
        default=(),
        description="Driver branches that it runs on, from the ELF note `.note.cuda.fwd_compatibility`; "
        "without a note: all older ones.",
    )
    folder: str = Field(
        default="/usr/local/cuda/compat", pattern=r"^/[^\s:,]*$", description="Where it lies."
    )


class ImageSpec(Section):
    """One image, by its digest."""

    image: str = Field(
        pattern=DIGEST, description="NAME@sha256:…, or the id of an image that is there already."
    )
    runtimes: dict[str, str] = Field(
        min_length=1,
        description="Kinds of runtime in it with their versions, such as {onnx: 1.22.0}.",
        json_schema_extra={"propertyNames": {"enum": list(KINDS)}},
    )
    cuda: CudaVersion | None = Field(default=None, description="The CUDA toolkit in it; absent: it has none.")
    sass: tuple[Capability, ...] = Field(
        default=(), description="Compute capabilities that it has machine code for, such as [7.0, 8.0]."
    )
    ptx: tuple[Capability, ...] = Field(
        default=(), description="Compute capabilities whose PTX it has, for drivers to compile."
    )
    compat: CompatSpec | None = None
    ray: str | None = Field(
        default=None,
        pattern=r"^\d+(\.\d+){1,3}[a-z0-9.+-]*$",
        description="The version of Ray in it; absent: it has none, and so joins no cluster of Ray.",
    )
    require: dict[str, str] = Field(
        default_factory=dict,
        description="Its NVIDIA_REQUIRE_… variables, such as {NVIDIA_REQUIRE_CUDA: cuda>=12.8}.",
    )
    device: Literal["cuda", "cpu"] = Field(default="cuda", description="Where workers in it compute.")
    replaces: ImageName | None = Field(
        default=None,
        description="The image that stays in use on every type of GPU where this one is not proven.",
    )
    command: tuple[str, ...] = Field(
        default=("embedmill",), description="What runs in it; `worker …` is appended."
    )

    @field_validator("runtimes")
    @classmethod
    def _known_runtimes(cls, runtimes: dict[str, str]) -> dict[str, str]:
        for kind in runtimes:
            if kind not in KINDS:
                raise WrongAt(unknown("runtime", kind, KINDS), kind)
        return runtimes

    @model_validator(mode="after")
    def _cuda_has_code(self) -> ImageSpec:
        if self.cuda is not None and not (self.sass or self.ptx):
            raise ValueError("`cuda` needs `sass` or `ptx`: for which GPUs is there code in the image?")
        return self


class ImagesSpec(Section):
    """All images that may be used, in the order in which they are preferred."""

    images: dict[ImageName, ImageSpec] = Field(min_length=1)

    @model_validator(mode="after")
    def _known_names(self) -> ImagesSpec:
        for name, image in self.images.items():
            if image.replaces is not None and (image.replaces not in self.images or image.replaces == name):
                others = (each for each in self.images if each != name)
                raise WrongAt(unknown("other image", image.replaces, others), "images", name, "replaces")
        return self
