"""The JSON of commands that keep a store in order: `release ls`, `pin`, `unpin`, `collect` and `copy`."""

from __future__ import annotations

from typing import ClassVar, Literal

from embedmill.spec.document import Document, Part
from embedmill.spec.documents import ReleaseName


class ListedRelease(Part):
    """A line of `release ls`. `hold`: it is live by a rollback, and runs do not publish over it.

    `trouble`: that a document of it is gone or damaged, empty where it is not; `items` may then be unknown.
    """

    release: str
    number: int
    items: int | None
    created: str
    live: bool
    pinned: bool
    hold: bool
    trouble: str = ""


class PinReport(Document):
    """`release pin` and `unpin`: the log entry that did it; null where nothing had to be done."""

    SCHEMA: ClassVar[str] = "pin/1"

    release: str
    pinned: bool
    number: int | None


class KeptRelease(Part):
    """A published release that stays, and each reason why."""

    release: str
    number: int
    why: tuple[str, ...]


class NamedRun(Part):
    """A run (or what lies under such a name), and what is to be said of it."""

    run: str
    why: str


class Deletion(Part):
    """Objects under one name: of a `release`, of a `run`, or `strays` that no manifest names."""

    what: Literal["release", "run", "strays"]
    name: str
    why: str
    objects: int
    size_bytes: int


class CollectReport(Document):
    """`release collect`: what was done, or with `dry_run` what would be.

    `postponed` says why no release was retired although some could be; empty if that is not so. `left` has
    what was not touched: open runs, copies, names that are no run's. `objects` and `size_bytes` are the sums
    of `deleted`; unfinished objects are beside them, and `unfinished_left` says why they were not looked for,
    if they were not.
    """

    SCHEMA: ClassVar[str] = "collect/1"

    dry_run: bool
    kept: tuple[KeptRelease, ...]
    retired: tuple[ReleaseName, ...]
    abandoned: tuple[NamedRun, ...]
    left: tuple[NamedRun, ...]
    postponed: str
    deleted: tuple[Deletion, ...]
    objects: int
    size_bytes: int
    unfinished_objects: int
    unfinished_bytes: int
    unfinished_left: str = ""


class CopyReport(Document):
    """`release copy`: a whole release in another store; `number` is its log entry there, null without one.

    `copied` of the `files` were copied by this call; the others were there before. All were verified.
    """

    SCHEMA: ClassVar[str] = "copy/1"

    release: str
    url: str
    number: int | None
    files: int
    copied: int
    size_bytes: int
    copied_bytes: int
    seconds: float
