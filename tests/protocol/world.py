"""What the protocol's agents share: names of objects, documents, the history, and the rules they follow.

Documents are reduced to what decides something. Keys are those of src/embedmill/release/layout.py.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from tests.protocol.store import Key, Objects

Run = str
Kind = Literal["publish", "rollback", "unhold", "pin", "unpin", "retire"]


class Entry(NamedTuple):
    """A log entry. Its parent is implied: a fixed number has one predecessor, which is never rewritten."""

    kind: Kind
    release: Run

    def __str__(self) -> str:
        return f"{self.kind} {self.release}"


class Terminal(NamedTuple):
    """How a run was closed: to be published under a number, or not at all (`number` None), and why."""

    number: int | None
    why: str = ""

    def __str__(self) -> str:
        return f"publish@{self.number}" if self.number is not None else f"abandon ({self.why})"


class Plan(NamedTuple):
    """The release that a run is planned on, its shards, and where their vectors are if they were salvaged."""

    base: Run
    shards: tuple[str, ...] = ()
    salvaged: tuple[Key | None, ...] = ()

    def __str__(self) -> str:
        return f"a plan on {self.base}, salvaged {[key or '-' for key in self.salvaged]}"

    def to_compute(self) -> list[str]:
        """Shards without salvaged vectors."""
        return [shard for shard, key in zip(self.shards, self.salvaged, strict=True) if key is None]


class Named(NamedTuple):
    """Files that CONTENT or MANIFEST names, with the bytes that they must have."""

    files: tuple[tuple[Key, str], ...]

    def __str__(self) -> str:
        return ", ".join(key.split("/", 2)[2] if "/" in key else key for key, _ in self.files) or "no files"


BYTES = "its bytes"
"""Contents of a file whose name is its attempt's own: nobody ever writes others under it."""


def log_key(number: int) -> Key:
    return f"log/{number}"


def terminal_key(run: Run) -> Key:
    return f"runs/{run}/terminal"


def plan_key(run: Run) -> Key:
    return f"runs/{run}/plan"


def commit_key(run: Run, shard: str) -> Key:
    return f"runs/{run}/commits/{shard}"


def content_key(run: Run) -> Key:
    return f"releases/{run}/CONTENT"


def manifest_key(run: Run) -> Key:
    return f"releases/{run}/MANIFEST"


def verdicts_key(run: Run) -> Key:
    return f"releases/{run}/gates"


def vectors_key(run: Run, shard: str, attempt: str) -> Key:
    return f"releases/{run}/vectors/{shard}.{attempt}"


class History(NamedTuple):
    """All entries of the log, and what follows from them: `History` of src/embedmill/release/log.py."""

    entries: tuple[Entry, ...]
    live: Run
    hold: bool
    published: tuple[Run, ...]
    """Not retired, oldest first."""
    pinned: frozenset[Run]
    retired: frozenset[Run]

    @property
    def next_number(self) -> int:
        return len(self.entries) + 1

    def retirable(self, retained: int) -> list[Run]:
        """Releases that may be retired: not live, not pinned, not one of the last K.

        As `reasons_to_keep` in release/collect.py says it of the code.
        """
        kept = {self.live, *self.pinned, *self.published[max(0, len(self.published) - retained) :]}
        return [release for release in self.published if release not in kept]


def follow(entries: tuple[Entry, ...]) -> History:
    """The history of these entries."""
    live, hold = "", False
    published: list[Run] = []
    pinned: set[Run] = set()
    retired: set[Run] = set()
    for kind, release in entries:
        if kind in {"publish", "rollback"}:
            live, hold = release, kind == "rollback"
        if kind == "publish":
            published.append(release)
        elif kind == "unhold":
            hold = False
        elif kind == "pin":
            pinned.add(release)
        elif kind == "unpin":
            pinned.discard(release)
        elif kind == "retire":
            retired.add(release)
    known = tuple(release for release in published if release not in retired)
    return History(entries, live, hold, known, frozenset(pinned), frozenset(retired))


def read_history(objects: Objects) -> History:
    """Walk the log from its first entry until one is missing.

    One step of the model: entries never change, so that what the walk finds is what there was when its last
    read found nothing.
    """
    entries: list[Entry] = []
    while isinstance(entry := objects.get(log_key(len(entries) + 1)), Entry):
        entries.append(entry)
    return follow(tuple(entries))


class Rules(NamedTuple):
    """The rules of the protocol that a broken variant drops; all hold by default."""

    abandon_is_won_before_deleting: bool = True
    terminal_is_won_before_publishing: bool = True
    taken_is_looked_into: bool = True
    unknown_keeps_its_number: bool = True
    number_is_that_of_the_decision: frozenset[Kind] = frozenset(
        ("publish", "rollback", "unhold", "pin", "unpin", "retire")
    )
    log_entries_are_kept: bool = True
    retire_is_logged_before_deleting: bool = True
    rollback_refuses_retired: bool = True
    retire_spares_pinned: bool = True
    retire_spares_live: bool = True
    publishing_minds_a_hold: bool = True
    publishing_minds_its_base: bool = True
    commits_are_created_once: bool = True
    losers_delete_only_their_own: bool = True
    commits_of_releases_are_kept: bool = True
    sweep_follows_content: bool = True
    salvage_copies: bool = True
    files_are_checked: bool = True
    verdicts_are_created_once: bool = True
    damage_is_looked_at_again: bool = True


class Scenario(NamedTuple):
    """What is constant in an exploration. `entries` and `late` bound the exploration, not the protocol."""

    name: str
    rules: Rules = Rules()
    entries: int = 4
    """The log grows to this many entries at most."""
    late: int = 2
    """So many requests may be on their way at once."""
    late_deletes: bool = False
    retained: int = 1
    """The last K releases are not retired."""
    intentions: tuple[Kind, ...] = ("rollback", "unhold", "pin", "unpin")
    """What an operator may want."""
    runs: tuple[Run, ...] = ()
    """Runs that a collector may abandon."""
    retires: bool = False
    """Whether a collector retires releases."""
    at_once: bool = False
    """Whether operator and collector decide and append in one step; see `decide`."""
    deletes_documents: bool = False
    """Whether a collector deletes documents, too, and commit records."""
    any_order: bool = False
    """Whether files are deleted in any order, and not in that of a listing."""
    only_releases: bool = False
    """Whether only the log and published releases are looked at: the way to a loss, not to its cause."""
    sealed: bool = False
    """Whether candidates have their MANIFEST already."""
    verdicts: bool = False
    """Whether gates are checked; else a release has no verdicts."""
    compacts: bool = False
    """Whether assemblers compact, so that committed vectors are moved to a new file."""
    carries: bool = False
    """Whether assemblers carry a file of the base over."""
