"""What `verify` and the gate on production found: whether a server makes the vectors of a release."""

from __future__ import annotations

from typing import ClassVar

from embedmill.spec.document import Document, Part


class Cosines(Part):
    """Cosines between vectors of a server and those that are stored, by quantile."""

    rows: int
    lowest: float
    p1: float
    median: float


class ParityCheck(Part):
    """One thing that was looked at; `cosines` where vectors were compared."""

    check: str
    passed: bool
    message: str
    cosines: Cosines | None = None


class EncoderParity(Part):
    """What was found of one encoder, and the name that it has at the server.

    `skipped` says why it could not be asked; then there are no checks.
    """

    encoder: str
    model: str
    checks: tuple[ParityCheck, ...] = ()
    skipped: str = ""

    @property
    def failed(self) -> tuple[ParityCheck, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)


class ParityReport(Document):
    """`verify`: a release against a server; `server` is what the server calls itself."""

    SCHEMA: ClassVar[str] = "parity/1"

    passed: bool
    release: str
    number: int
    url: str
    protocol: str
    server: str
    encoders: tuple[EncoderParity, ...]
    seconds: float

    @property
    def failures(self) -> tuple[str, ...]:
        """What failed, a sentence each."""
        found = [(each.model, check) for each in self.encoders for check in each.failed]
        return tuple(f"{model}: {check.check}: {check.message}" for model, check in found)
