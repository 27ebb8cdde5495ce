"""The JSON documents of `deploy serving` and `deploy image`."""

from __future__ import annotations

from typing import ClassVar

from embedmill.spec.document import Document


class ServingDeployReport(Document):
    """`deploy serving`: manifests of a release, and what a server of it needs; `beside`: the other number."""

    SCHEMA: ClassVar[str] = "deploy-serving/1"

    name: str
    release: str
    number: int
    beside: int | None
    folder: str
    files: tuple[str, ...]
    memory_mib: int
    disk_mib: int


class ImageDeployReport(Document):
    """`deploy image`: a folder to build an image from; `extras` of embedmill, and versions that are fixed."""

    SCHEMA: ClassVar[str] = "deploy-image/1"

    release: str
    base: str
    folder: str
    files: tuple[str, ...]
    version: str
    extras: tuple[str, ...]
    pins: dict[str, str]
