"""The JSON document of `check --quarantine`: what a candidate lacks, and why."""

from __future__ import annotations

from typing import ClassVar

from embedmill.spec.document import Document
from embedmill.spec.reports import QuarantinedItem


class QuarantineReport(Document):
    """`check --quarantine`: of the run's candidate, items by reason, and the first of them.

    `created`: when the candidate was made; what was mended since is not in it.
    """

    SCHEMA: ClassVar[str] = "quarantine/1"

    run: str
    created: str
    total: int
    quarantine: dict[str, int]
    quarantined: tuple[QuarantinedItem, ...]
