"""Hints that name commands, with the spec's file that these want: what is pasted must work."""

from __future__ import annotations

import itertools
import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

OF_ONE_PIPELINE = (
    "cancel",
    "check",
    "index",
    "publish",
    "release ls",
    "release show",
    "release unhold",
    "release verify",
    "resume",
    "run",
    "status",
)
"""Commands of hints that take one PIPELINE.yaml, and can do without anything else."""
_BARE = re.compile(rf"`embedmill ({'|'.join(OF_ONE_PIPELINE)})((?: --[a-z-]+)*)`")
_OF_OTHER_FILES = frozenset({"fleet", "images", "model", "store", "jenkins", "worker"})
_OTHER_FILES = frozenset({"--all", "--fleet", "--images"})
"""Options whose value is a YAML file, or may be one, and no pipeline of a hint."""


def with_file(text: str, arguments: Sequence[str]) -> str:
    """The text, its commands with the PIPELINE.yaml of this command line; as it is where there is none."""
    file = _pipeline_of(arguments)
    if file is None:
        return text
    quoted = shlex.quote(file)
    return _BARE.sub(lambda found: f"`embedmill {found[1]} {quoted}{found[2]}`", text)


def _pipeline_of(arguments: Sequence[str]) -> str | None:
    """`release copy` speaks of the store that it copies to, which may be of another spec."""
    if not arguments or arguments[0] in _OF_OTHER_FILES or list(arguments[:2]) == ["release", "copy"]:
        return None
    pairs = itertools.pairwise(arguments)
    named = (each for before, each in pairs if before not in _OTHER_FILES and not each.startswith("-"))
    return next((each for each in named if each.endswith((".yaml", ".yml"))), None)
