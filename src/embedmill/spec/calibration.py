"""How a machine computes an encoder's texts fastest: what was tried, and what was chosen."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from embedmill.spec.document import Document, Part


class Setting(Part):
    """How a machine's cores are used: `sessions` batches beside each other, each of so many `threads`."""

    batch_tokens: int = Field(ge=1)
    sessions: int = Field(ge=1)
    threads: int = Field(ge=1)

    def __str__(self) -> str:
        return f"{self.batch_tokens} tokens, {self.sessions} x {self.threads} threads"


class Measured(Part):
    """How fast a setting was, all of its sessions together."""

    setting: Setting
    items_per_s: float


class Calibration(Part):
    """What a run computes with, and all that was measured for it; `source` says when."""

    chosen: Setting
    measured: tuple[Measured, ...]
    source: str

    def __str__(self) -> str:
        rates = "; ".join(f"{each.setting}: {each.items_per_s:,.0f}/s" for each in self.measured)
        return f"{self.chosen} ({self.source}: {rates})"


class CalibrationKey(Part):
    """What a calibration is of: with anything else it may be another.

    `row_tokens`: the next power of two above a row's estimated tokens, on average. `batch_tokens` and
    `workers` are those that the pipeline states; `one_thread`: loops had to have one each.
    """

    package_digest: str
    runtime: str
    runtime_version: str
    device: str
    processor: str
    cores: int
    row_tokens: int
    batch_tokens: int | None
    workers: int | None
    one_thread: bool


class KeptCalibration(Document):
    """A calibration in the cache of the machine that it was made on.

    Where nothing could be measured, it has measured nothing and chose the default.
    """

    SCHEMA: ClassVar[str] = "calibration/1"

    key: CalibrationKey
    calibration: Calibration
    created: str
