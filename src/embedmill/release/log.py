"""A pipeline's history: numbered entries, each created once, each naming its parent.

The head is found by walking forward, for a listing may miss entries. Every entry carries its parent's digest,
so that one cannot be exchanged unnoticed. `HEAD` is a hint, which nothing rests on: it says where to look for
an entry beyond a gap, as half a copy of a store has it, or a folder that somebody tidied up. It may lag, so
that whoever acts on the history (plans, publishes, collects, appends) also lists what is there: no listing
invents an entry. Who only reads does not.
"""

from __future__ import annotations

import difflib
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from embedmill.errors import (
    LogGap,
    ObjectExists,
    ObjectMissing,
    PublishLost,
    PublishUnknown,
    ReleaseMissing,
    StoreError,
    StoreUnavailable,
)
from embedmill.release.layout import MANIFEST, Home
from embedmill.spec.document import sha256
from embedmill.spec.documents import LogEntry, Manifest, ReleaseName
from embedmill.spec.section import guess
from embedmill.store import folder_names, join_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NO_PARENT = ""
LOG, HEAD = "log", "HEAD"
ENTRY_NAME = re.compile(r"(\d{8,})\.json")
PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Waits before an entry counts as lost: an NFS client may remember for a while that it was not there."""
MOST_LOOKED_INTO = 32
"""Folders of a store that are looked into for a pipeline whose name was misspelt."""
Kind = Literal["publish", "rollback", "unhold", "pin", "unpin", "retire"]


@dataclass(frozen=True)
class History:
    """All entries of a log, oldest first, and what follows from them."""

    entries: tuple[LogEntry, ...]

    @property
    def head(self) -> LogEntry | None:
        """The newest entry."""
        return self.entries[-1] if self.entries else None

    @property
    def next_number(self) -> int:
        """The number that the next entry must have."""
        return len(self.entries) + 1

    @property
    def live(self) -> ReleaseName | None:
        """The release that is to be served: the newest one published or rolled back to."""
        for entry in reversed(self.entries):
            if entry.kind in {"publish", "rollback"}:
                return ReleaseName(release=entry.release, number=self.number_of(entry.release))
        return None

    @property
    def hold(self) -> LogEntry | None:
        """The rollback that keeps runs from publishing, until someone lifts it."""
        for entry in reversed(self.entries):
            if entry.kind in {"publish", "unhold"}:
                return None
            if entry.kind == "rollback":
                return entry
        return None

    @property
    def pinned(self) -> Mapping[str, LogEntry]:
        """The releases that are never retired, each with the entry that pinned it."""
        found: dict[str, LogEntry] = {}
        for entry in self.entries:
            if entry.kind == "pin":
                found[entry.release] = entry
            elif entry.kind == "unpin":
                found.pop(entry.release, None)
        return found

    @property
    def retired(self) -> Mapping[str, LogEntry]:
        """The releases whose files are deleted, or soon will be, each with the entry that says so."""
        return {entry.release: entry for entry in self.entries if entry.kind == "retire"}

    def publication_of(self, release: str) -> LogEntry | None:
        """The entry that first published a release; None if none did."""
        for entry in self.entries:
            if entry.kind == "publish" and entry.release == release:
                return entry
        return None

    def number_of(self, release: str) -> int:
        """The number of a release: that of the entry that first published it.

        Raises:
            ReleaseMissing: It was never published.
        """
        entry = self.publication_of(release)
        if entry is not None:
            return entry.number
        raise ReleaseMissing(
            f"release {release} was never published", hint="`embedmill release ls` shows those that were"
        )

    def published(self) -> list[ReleaseName]:
        """Every release that is not retired, oldest first."""
        retired = self.retired
        publish = [
            entry for entry in self.entries if entry.kind == "publish" and entry.release not in retired
        ]
        return [ReleaseName(release=entry.release, number=entry.number) for entry in publish]

    def find(self, name: str) -> ReleaseName:
        """A published release by its name or number.

        Raises:
            ReleaseMissing: There is none, or it was retired; says by which entry, and when.
        """
        for release in self.published():
            if name in {release.release, str(release.number)}:
                return release
        for release_name, entry in self.retired.items():
            number = self.number_of(release_name)
            if name in {release_name, str(number)}:
                raise ReleaseMissing(
                    f"release {release_name} (number {number}) was retired on {entry.created} by log entry "
                    f"{entry.number}: its files are deleted",
                    hint="`embedmill release ls` shows those there are",
                )
        raise ReleaseMissing(f"no release {name!r}", hint="`embedmill release ls` shows those there are")


def read_history(home: Home, *, patient: bool = True) -> History:
    """Read the log from its first entry to its last; who is not `patient` does not wait for a missing entry.

    Raises:
        LogGap: An entry was lost, and HEAD names a later one.
        StoreError: The chain is broken: an entry does not name its predecessor.
    """
    entries: list[LogEntry] = []
    parent = NO_PARENT
    while True:
        key = home.log_key(len(entries) + 1)
        try:
            data = home.store.get(key)
        except ObjectMissing:
            beyond = _hinted(home)
            if beyond <= len(entries) + 1 or not home.exists(home.log_key(beyond)):
                return History(tuple(entries))
            data = _written_meanwhile(home, key, beyond, patient=patient)
        entry = LogEntry.from_bytes(data, key)
        if entry.number != len(entries) + 1 or entry.parent != parent:
            raise StoreError(f"{key}: does not follow the entry before it", hint="the log was tampered with")
        entries.append(entry)
        parent = sha256(data)


def whole_history(home: Home) -> History:
    """Read the log to act on it: all that was listed before is in it.

    Raises:
        LogGap: An entry was lost, whatever HEAD says of it.
        StoreError: The chain is broken.
    """
    beyond = _last_listed(home)
    history = read_history(home)
    while history.next_number <= beyond:
        _written_meanwhile(home, home.log_key(history.next_number), beyond)
        history = read_history(home)
    return history


def _last_listed(home: Home) -> int:
    """The number of the last entry that a listing shows; 0 if it shows none."""
    last = 0
    for info in home.store.list(join_key(home.pipeline, LOG)):
        found = ENTRY_NAME.fullmatch(info.key.rsplit("/", 1)[-1])
        if found and info.key == home.log_key(int(found[1])):  # and not of a copy in a folder below
            last = max(last, int(found[1]))
    return last


def _hinted(home: Home) -> int:
    """The number of an entry that may be there, by HEAD; 0 where that says nothing."""
    with suppress(ObjectMissing, ValueError):
        return max(0, int(home.store.get(join_key(home.pipeline, HEAD))))
    return 0


def _written_meanwhile(home: Home, key: str, beyond: int, *, patient: bool = True) -> bytes:
    """An entry that was not there a moment ago, though the one `beyond` is: written meanwhile, or lost.

    Raises:
        LogGap: It is lost. A new one in its place would make the log one that nobody can read.
    """
    for pause_s in (0.0, *(PAUSES_S if patient else ())):
        if pause_s:
            home.world.sleep(pause_s)
        with suppress(ObjectMissing):
            return home.store.get(key)
    raise LogGap(
        f"{home.store.url}/{key}: is missing, and entry {beyond} is there",
        hint="put it back from a copy of the store, or finish copying, if this is a copy",
    )


def _check_is_next(home: Home, number: int) -> None:
    """Whether no entry was lost that HEAD, which may lag behind, told nothing of.

    Where the number is taken already, as by a faster writer, creating the entry says so.

    Raises:
        LogGap: A later entry is listed, and none has this number.
    """
    beyond = _last_listed(home)
    if beyond > number:
        _written_meanwhile(home, home.log_key(number), beyond)


def append(
    home: Home, history: History, kind: Kind, release: str, *, transaction: str = "", note: str = ""
) -> LogEntry:
    """Create the entry after `history`. This is the commit: it happens here or not at all.

    `transaction` names the caller's intent, so that a second try finds its own entry; a fresh one if empty.

    Raises:
        PublishLost: Another writer has taken the number.
        PublishUnknown: The store gave no answer: the entry may be there, or come yet. Whoever reads the log
            next sees it, or takes its number.
        LogGap: The entry would take the place of one that was lost.
    """
    home.check_fit()
    _check_is_next(home, history.next_number)
    entry = LogEntry(
        number=history.next_number,
        kind=kind,
        release=release,
        manifest_digest=_manifest_digest(home, history, release),
        parent=sha256(history.head.to_bytes()) if history.head else NO_PARENT,
        transaction=transaction or home.world.token(8),
        note=note,
        created=home.now(),
    )
    try:
        home.store.put_if_absent(home.log_key(entry.number), entry.to_bytes())
    except ObjectExists:
        there = home.read(LogEntry, home.log_key(entry.number))
        if there.transaction != entry.transaction:
            raise PublishLost(
                f"log entry {entry.number} was taken by release {there.release}",
                hint="run again: it plans on top of it",
            ) from None
        entry = there
    except StoreUnavailable as error:
        raise PublishUnknown(
            f"log entry {entry.number}: no answer from the store, so release {release} may be live or not: "
            f"{error.message}",
            hint="run again: that finds out",
        ) from error
    with suppress(StoreError):  # a hint only, and the entry stands
        home.store.put(join_key(home.pipeline, HEAD), f"{entry.number}\n".encode())
    return entry


def _manifest_digest(home: Home, history: History, release: str) -> str:
    """As the release was published with, whatever became of its files; the manifest's own before that."""
    published = history.publication_of(release)
    if published is not None:
        return published.manifest_digest
    return home.read(Manifest, home.release_key(release, MANIFEST)).digest


def live_release(home: Home, entries: Iterable[LogEntry] | None = None) -> ReleaseName:
    """The live release of a pipeline.

    Raises:
        ReleaseMissing: Nothing was published yet.
    """
    history = History(tuple(entries)) if entries is not None else read_history(home)
    if history.live is None:
        raise nothing_published(home)
    return history.live


def nothing_published(home: Home) -> ReleaseMissing:
    """That a pipeline has no release; where its store has no such pipeline, which ones it has."""
    hint = "`embedmill run` publishes a first release"
    with suppress(StoreError):  # the error itself is known already
        there = _pipelines_in(home)
        if there and home.pipeline not in there:
            hint = f"{guess(home.pipeline, there)}the store has: {', '.join(there)}; {hint}"
    return ReleaseMissing(f"{home.url}: nothing was published yet", hint=hint)


def _pipelines_in(home: Home) -> list[str]:
    """Folders of the store that have a log; of many folders, those alone whose names are alike."""
    names = folder_names(home.store, "")
    if len(names) > MOST_LOOKED_INTO:
        names = difflib.get_close_matches(home.pipeline, names, n=MOST_LOOKED_INTO)
    return [name for name in names if LOG in folder_names(home.store, name)]
