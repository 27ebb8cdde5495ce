"""What Ray raises, in words of ours: told by the process that speaks to Ray, raised where the engine is."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from embedmill.errors import EmbedmillError, EngineRefused, EngineUnavailable, MissingExtra

NOT_A_NODE = "where this machine is no node of the cluster, use ray://HOST:10001"
NOT_ITS_HEAD = "is the cluster up, and is the address that of its head (6379)?"


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
        if self.kind == "refused":
            return EngineRefused(f"Ray at {address}: {self.words}", hint=self.hint)
        return unavailable(address, self.words)


def unavailable(address: str, words: str) -> EngineUnavailable:
    """The cluster cannot be reached now; who asks it as a node is told of the other way."""
    hint = "" if address.startswith("ray://") else NOT_A_NODE
    return EngineUnavailable(f"Ray at {address}: {words}", hint=hint)


def not_listening(address: str, timeout_s: float) -> str:
    """Why nothing takes connections at HOST:PORT or ray://HOST:PORT; empty where something does."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout_s).close()
    except OSError as error:
        return (error.strerror or str(error) or type(error).__name__).lower()
    return ""


def refusal(error: Exception) -> Refusal:
    """What an exception of Ray's means for whoever waits."""
    if isinstance(error, Refused):
        return error.refusal
    words, shown = _words(error, _one_line), _words(error, _without_tracebacks)[:LONGEST]
    for sign, hint in REFUSALS:
        if sign in words:
            return Refusal("refused", shown, hint)
    return Refusal("unavailable", shown)


WRONG_TOKEN = "`ray.token_file` must have the token that the cluster was started with"  # noqa: S105 - words
OTHER_VERSION = "this machine and the nodes need the same Ray and the same Python"
REFUSALS = (
    ("InvalidAuthToken", WRONG_TOKEN),
    ("AuthenticationError", WRONG_TOKEN),
    ("uthentication token", WRONG_TOKEN),
    ("nauthenticated", WRONG_TOKEN),
    ("Version mismatch", OTHER_VERSION),
)
"""A part of what Ray says → what helps."""
LONGEST = 500
TRACEBACK = "Traceback (most recent call last)"


def _words(error: BaseException | None, told: Callable[[str], str]) -> str:
    """Of an error and what it came from; `told` makes a line of each one's text."""
    found: list[str] = []
    while error is not None:
        text = told(str(error))
        found.append(text if type(error).__name__ in BUILT_IN else f"{type(error).__name__}: {text}")
        error = error.__cause__
    return ": ".join(found)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _without_tracebacks(text: str) -> str:
    """Of a traceback, which Ray puts into some messages, its last line alone: what was raised."""
    kept: list[str] = []
    begun: int | None = None
    for line in filter(str.strip, text.splitlines()):
        depth = len(line) - len(line.lstrip())
        if begun is not None and depth > begun:
            continue
        before, found, _ = line.partition(TRACEBACK)
        begun = depth if found else None
        kept.append(before)
    return _one_line(" ".join(kept)).rstrip(" :") or _one_line(text)


BUILT_IN = frozenset({"ConnectionError", "RuntimeError", "ValueError", "Exception"})
