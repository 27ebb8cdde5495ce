"""What Ray raises, in words of ours: told by the process that speaks to Ray, raised where the engine is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from embedmill.errors import EmbedmillError, EngineRefused, EngineUnavailable, MissingExtra

NOT_A_NODE = "where this machine is no node of the cluster, use ray://HOST:10001"


class Refused(Exception):
    """`kind` is extra, refused or unavailable."""

    def __init__(self, kind: str, words: str, hint: str = "") -> None:
        super().__init__(words)
        self.refusal = Refusal(kind, words, hint)


@dataclass(frozen=True)
class Refusal:
    """An error on its way between the two processes."""

    kind: str
    words: str
    hint: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Refusal:
        """What `document` made."""
        return cls(document["kind"], document["words"], document.get("hint", ""))

    def error(self, address: str) -> EmbedmillError:
        """To be raised."""
        if self.kind == "extra":
            return MissingExtra("Ray", extra="ray")
        raised = EngineRefused if self.kind == "refused" else EngineUnavailable
        return raised(f"Ray at {address}: {self.words}", hint=self.hint)


def refusal(error: Exception) -> Refusal:
    """What an exception of Ray's means for whoever waits."""
    if isinstance(error, Refused):
        return error.refusal
    words = _first_words(str(error)) or type(error).__name__
    for sign, kind, hint in SIGNS:
        if sign in str(error) or sign == type(error).__name__:
            return Refusal(kind, words, hint)
    return Refusal("unavailable", words, NOT_A_NODE)


SIGNS = (
    (
        "AuthenticationError",
        "refused",
        "`ray.token_file` must have the token that the cluster was started with",
    ),
    ("Version mismatch", "refused", "this machine and the nodes need the same Ray and the same Python"),
)
"""A part of what Ray says, or the name of what it raises → what it means, and what helps."""


def _first_words(text: str) -> str:
    """The message without a trace: one line."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return " ".join(lines)[:400]
