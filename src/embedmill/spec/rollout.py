"""The JSON documents of `deploy serving`, `deploy batch`, `deploy ray` and `deploy image`."""

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


class BatchDeployReport(Document):
    """`deploy batch`: manifests of a pipeline's work; `run` is the URL of the run whose Jobs they have."""

    SCHEMA: ClassVar[str] = "deploy-batch/1"

    pipeline: str
    namespace: str
    run: str | None
    nightly: str | None
    folder: str
    files: tuple[str, ...]


class RayDeployReport(Document):
    """`deploy ray`: manifests of a cluster of Ray; `groups`: of workers, with their greatest numbers."""

    SCHEMA: ClassVar[str] = "deploy-ray/1"

    cluster: str
    namespace: str
    ray: str
    groups: dict[str, int]
    folder: str
    files: tuple[str, ...]


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
