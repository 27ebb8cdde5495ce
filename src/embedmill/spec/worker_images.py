"""The JSON documents of `images list`, `images render`, `images build` and `images inspect`."""

from __future__ import annotations

from typing import ClassVar

from embedmill.spec.document import Document, Part
from embedmill.spec.images import ImageSpec


class ImageVariant(Part):
    """An image that can be made: what it installs, and for which GPUs that has machine code and PTX."""

    name: str
    requirement: str
    cuda: str | None
    sass: tuple[str, ...]
    ptx: tuple[str, ...]


class ImageVariants(Document):
    """`images list`."""

    SCHEMA: ClassVar[str] = "image-variants/1"

    variants: tuple[ImageVariant, ...]


class ImageRenderReport(Document):
    """`images render`: a folder to build an image from, and what pip installs into it."""

    SCHEMA: ClassVar[str] = "image-render/1"

    variant: str
    base: str
    folder: str
    files: tuple[str, ...]
    requirements: tuple[str, ...]


class InstalledPackage(Part):
    """A package in an image; `kind` is `pypi`, or that of the base's own packages, such as `deb`."""

    kind: str
    name: str
    version: str
    size_bytes: int


class ImageReport(Document):
    """`images build` and `images inspect`: `entry` is what images.yaml has of it.

    `size_bytes`: of all layers, as the tool counts it. `packages`: of the image's SBOM, largest first; empty
    where none was asked for.
    """

    SCHEMA: ClassVar[str] = "image/1"

    image: str
    size_bytes: int | None
    entry: ImageSpec
    packages: tuple[InstalledPackage, ...] = ()
