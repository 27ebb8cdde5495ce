"""What was learnt of GPUs, kept in the user's cache."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from embedmill.spec.document import Document


class GpuBaselines(Document):
    """`gpu-baselines`: the least memory that was in use while nobody had a GPU, in MiB, by its UUID."""

    SCHEMA: ClassVar[str] = "gpu-baselines/1"

    mib: dict[str, Annotated[int, Field(ge=0)]]
