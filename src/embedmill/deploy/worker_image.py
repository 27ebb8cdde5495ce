"""Lean images for workers: one runtime on one family of CUDA, and the figures that choose images by GPU.

The CUDA libraries come from the runtime's own wheels, so the base is a plain Python. What the labels say of
machine code was read from the wheels' libraries, and each build reads it again (`describe.py`).
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedmill.deploy import describe
from embedmill.deploy.dockerfile import (
    HOME,
    VERSION,
    Recipe,
    checked_base,
    checked_version,
    context_files,
    dockerfile,
)
from embedmill.deploy.image_labels import labels_of
from embedmill.deploy.yaml_files import write_folder
from embedmill.errors import SpecError
from embedmill.spec.worker_images import ImageRenderReport, ImageVariant, ImageVariants
from embedmill.store.local import translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

USER = 10001
SBOM = f"{HOME}/sbom.cdx.json"
PACKAGES = f"{HOME}/lib/python3*/site-packages"
UNUSED = (
    "numpy/_core/include",
    "numpy/*/tests",
    "pyarrow/include",
    "pyarrow/src",
    "pyarrow/tests",
    "pyarrow/*flight*",
    "pyarrow/*s3*",
)
"""What compilers and tests read, and networks that we reach by other libraries."""
CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
HOST = re.compile(r"^(localhost|[^/]*[.:][^/]*)/")


@dataclass(frozen=True)
class Variant:
    """A runtime as an image has it: `package` is what pip installs, and what has code for GPUs.

    `requirements` are exact. `unused` are folders of its packages that compilers alone read.
    """

    name: str
    runtime: str
    package: str
    version: str
    parts: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    cuda: str | None = None
    sass: tuple[str, ...] = ()
    ptx: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def requirement(self) -> str:
        """As pip writes it."""
        parts = f"[{','.join(self.parts)}]" if self.parts else ""
        return f"{self.package}{parts}=={self.version}"

    @property
    def device(self) -> str:
        """Where it computes."""
        return "cpu" if self.cuda is None else "cuda"


_HEADERS = ("tensorflow/include",)
_TORCH_HEADERS = ("torch/include", "torch/test", "torch/share")
_CUDA_HEADERS = ("nvidia/*/include",)
_CUDA_129 = ("nvidia-cuda-runtime-cu12==12.9.79",)
_TENSORFLOW_SASS = ("6.0", "7.0", "8.0", "8.9")
_TORCH_CU130 = ("7.5", "8.0", "8.6", "9.0", "10.0", "12.0")
VARIANTS: Mapping[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("onnx-cpu", "onnx", "onnxruntime", "1.32.0"),
        Variant(
            "onnx-cuda12",
            "onnx",
            "onnxruntime-gpu",
            "1.26.0",
            parts=("cuda", "cudnn"),
            requirements=_CUDA_129,
            cuda="12.9",
            sass=("6.0", "7.0", "7.5", "8.0", "8.6", "9.0"),
            ptx=("9.0",),
            unused=_CUDA_HEADERS,
        ),
        Variant("openvino-cpu", "openvino", "openvino", "2026.4.1", unused=("openvino/include",)),
        Variant("tensorflow-cpu", "tensorflow", "tensorflow-cpu", "2.21.0", unused=_HEADERS),
        Variant(
            "tensorflow-cuda12",
            "tensorflow",
            "tensorflow",
            "2.21.0",
            parts=("and-cuda",),
            requirements=_CUDA_129,
            cuda="12.9",
            sass=_TENSORFLOW_SASS,
            ptx=("9.0",),
            unused=(*_HEADERS, *_CUDA_HEADERS),
        ),
        Variant("torch-cpu", "torch", "torch", "2.13.0+cpu", unused=_TORCH_HEADERS),
        Variant(
            "torch-cu126",
            "torch",
            "torch",
            "2.13.0+cu126",
            cuda="12.6",
            sass=("5.0", "6.0", "7.0", "7.5", "8.0", "8.6", "9.0"),
            unused=(*_TORCH_HEADERS, *_CUDA_HEADERS),
        ),
        Variant(
            "torch-cu130",
            "torch",
            "torch",
            "2.13.0",
            cuda="13.0",
            sass=_TORCH_CU130,
            unused=(*_TORCH_HEADERS, *_CUDA_HEADERS),
        ),
    )
}
"""Figures of code were read from the wheels; those of torch-cu126, which PyPI lacks, from PyTorch's notes."""


@dataclass(frozen=True)
class Settings:
    """What a house decides: its registry, certificates and packages.

    `mirror`: a registry, and a path in it, that has what the base's own registry has. `wheels`: a folder with
    all packages; no index is asked then. `authority`: a file of certificates. `extras`: of Embedmill.
    `ray`: the version of Ray that images have as well, to join clusters of that version.
    """

    base: str
    embedmill: str | None = None
    mirror: str | None = None
    wheels: Path | None = None
    authority: Path | None = None
    user: int = USER
    extras: tuple[str, ...] = ("cloud", "http")
    ray: str | None = None


def render_image(folder: Path, variant: Variant, settings: Settings) -> ImageRenderReport:
    """Write a folder that `docker build`, `podman build` or `buildah build` makes an image of.

    Raises:
        SpecError: The base is not named by its digest, a file is not what it should be, the folder is in use.
        StoreError: It cannot be written, or a file cannot be read.
    """
    chosen = checked_version(settings.embedmill or version("embedmill"))
    base = checked_base(mirrored(settings.base, settings.mirror))
    files = dict(_files(variant, settings, chosen))
    names = tuple(sorted(files))
    recipe = Recipe(
        base,
        settings.user,
        tuple(name for name in names if name != "ca.pem"),
        options=("--no-index",) if settings.wheels else (),
        steps=tuple(_steps(variant)),
        labels=labels_of(variant, embedmill=chosen, base=base, ray=settings.ray),
        authority=settings.authority is not None,
    )
    wheels = _wheels(settings.wheels)
    written = {"Dockerfile": dockerfile(recipe), **files, **context_files(names)}
    done = write_folder(folder, written, beside=[f"wheels/{wheel.name}" for wheel in wheels])
    with translated(str(folder / "wheels"), writing=True):
        for wheel in wheels:
            shutil.copy2(wheel, folder / "wheels" / wheel.name)
    return ImageRenderReport(
        variant=variant.name,
        base=base,
        folder=str(folder),
        files=tuple(sorted([*done, *(f"wheels/{wheel.name}" for wheel in wheels)])),
        requirements=tuple(files["requirements.txt"].decode().splitlines()),
    )


def listed_variants() -> ImageVariants:
    """Every image that can be made."""
    return ImageVariants(
        variants=tuple(
            ImageVariant(
                name=each.name, requirement=each.requirement, cuda=each.cuda, sass=each.sass, ptx=each.ptx
            )
            for each in VARIANTS.values()
        )
    )


def chosen_variant(name: str, **changes: str | tuple[str, ...] | None) -> Variant:
    """A variant by its name, with another `version`, `cuda`, `sass` or `ptx`; None changes nothing.

    Raises:
        SpecError: There is none of that name, or a value cannot be.
    """
    if name not in VARIANTS:
        raise SpecError(f"no image {name!r}", hint=f"one of {', '.join(VARIANTS)}")
    for field, value in changes.items():
        for each in () if value is None else (value,) if isinstance(value, str) else value:
            if not VERSION.fullmatch(each):
                raise SpecError(f"{field} {each!r}: is not a version")
    wanted: dict[str, Any] = {field: value for field, value in changes.items() if value is not None}
    return replace(VARIANTS[name], **wanted)


def mirrored(base: str, mirror: str | None) -> str:
    """The base in a mirror of its registry: the digest vouches that it is the same image."""
    if mirror is None:
        return base
    path = HOST.sub("", base)
    docker_hub = "/" not in path and not HOST.match(base)
    return f"{mirror.rstrip('/')}/{'library/' if docker_hub else ''}{path}"


def _files(variant: Variant, settings: Settings, chosen: str) -> Iterator[tuple[str, bytes]]:
    """What the build reads, by name."""
    extras = f"[{','.join(settings.extras)}]" if settings.extras else ""
    wanted = [f"embedmill{extras}=={chosen}", variant.requirement, *variant.requirements]
    if settings.ray is not None:
        wanted.append(f"ray[default]=={checked_version(settings.ray, 'ray')}")
    yield "requirements.txt", "".join(f"{line}\n" for line in wanted).encode()
    yield "describe.py", Path(describe.__file__).read_bytes()
    if settings.authority is not None:
        with translated(str(settings.authority), writing=False):
            certificates = settings.authority.read_bytes()
        if CERTIFICATE not in certificates:
            raise SpecError(f"{settings.authority}: has no certificate", hint="a file of PEM certificates")
        yield "ca.pem", certificates


def _steps(variant: Variant) -> Iterator[str]:
    """Once all is installed: remove what nobody runs, say what is there, fail if it is not as was said."""
    folders = [f"{PACKAGES}/{name}" for name in (*UNUSED, *variant.unused)]
    yield "rm -rf " + " \\\n    ".join(folders)
    said = f"--code {variant.package} --sass '{' '.join(variant.sass)}' --ptx '{' '.join(variant.ptx)}'"
    claims = "" if variant.cuda is None else f" {said} --cuda {variant.cuda}"
    yield f"{HOME}/bin/python /build/describe.py{claims} > {SBOM}"


def _wheels(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    found = sorted(folder.glob("*.whl"))
    if not found:
        raise SpecError(f"{folder}: has no wheels", hint="fill it by `pip download` or `pip wheel`")
    return found
