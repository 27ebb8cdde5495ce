"""What is installed where releases are served: printed there, kept beside `pipeline.yaml`, checked here."""

from __future__ import annotations

from typing import ClassVar

from embedmill.spec.document import Document, Part


class InstalledRuntime(Part):
    """A library that computes models.

    `max_opset` and `max_ir` are the newest ONNX operators and file version that it reads; null where that
    does not apply, or was not measured.
    """

    library: str
    version: str
    max_opset: int | None = None
    max_ir: int | None = None


class Environment(Document):
    """`environment`: this machine's Python and runtimes, by their `kind` in `model.yaml`."""

    SCHEMA: ClassVar[str] = "environment/1"

    python: str
    machine: str
    runtimes: dict[str, InstalledRuntime]
