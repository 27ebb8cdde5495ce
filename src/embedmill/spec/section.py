"""The base of every part of a spec, and what its checks raise."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails


class Section(BaseModel):
    """A frozen part of a spec; unknown keys are errors, which do not repeat what may be a secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class WrongAt(ValueError):
    """Something below the section that is checked is wrong: `location` are the keys that lead there."""

    def __init__(self, message: str, *location: int | str) -> None:
        super().__init__(message)
        self.location = location


def located(error: ErrorDetails) -> tuple[int | str, ...]:
    """The keys below the place that pydantic tells, where a check of ours knows them."""
    raised = error.get("ctx", {}).get("error")
    return raised.location if isinstance(raised, WrongAt) else ()


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """Says that there is no such name, which one may be meant, and which there are."""
    names = list(known)
    there = f"there are: {', '.join(names)}" if names else "there is none"
    return f"no {what} {name!r}; {guess(name, names)}{there}"


def guess(name: object, known: Iterable[str]) -> str:
    """The known name that is most like this one, as a question; empty where none is."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"did you mean `{near[0]}`? " if near else ""
