"""What `deploy` writes beside a model, and what it prints."""

from __future__ import annotations

from typing import ClassVar

from embedmill.spec.document import Document, Part

DEPLOYED, PACKAGE, GOLDENS = "deployed.json", "package", "goldens.arrow"
"""In a version's folder: this document, the model package, and goldens of the encoder."""


class DeployedEncoder(Document):
    """One encoder of one release, at a model server under `model`, version `number`."""

    SCHEMA: ClassVar[str] = "deployed/1"

    release: str
    number: int
    model: str
    encoder: str
    package_digest: str
    threads: int


class DeployedModelReport(Part):
    """A model of a repository: its folder, and the signature that is to be called, where it has several."""

    model: str
    encoder: str
    folder: str
    signature: str = ""


class DeployReport(Document):
    """`deploy triton` and `deploy tf-serving`: a model repository with one version of each model."""

    SCHEMA: ClassVar[str] = "deploy/1"

    repository: str
    release: str
    number: int
    models: tuple[DeployedModelReport, ...]
