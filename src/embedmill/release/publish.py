"""Publishing: seal the manifest, close the run, create the log entry. The entry is the commit."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from embedmill.errors import Held, ObjectMissing, PublishLost, ReleaseCorrupt
from embedmill.release.folders import release_folder
from embedmill.release.integrity import content_files, note_sealed, seen_files
from embedmill.release.layout import CONTENT, GATES, MANIFEST, REPORT, TERMINAL, Home
from embedmill.release.log import History, append, read_history, whole_history
from embedmill.release.runs import abandon, closed_if_corrupt
from embedmill.release.verdicts import seal_verdicts
from embedmill.spec.document import sha256
from embedmill.spec.documents import Content, FileEntry, Manifest, Terminal
from embedmill.store import LocalPaths
from embedmill.store.cache import in_parallel

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from embedmill.release.integrity import Seen
    from embedmill.spec.documents import Gates, LogEntry, Plan

LOG_LOOK_S = 10.0
"""How often a run looks at the log while it computes: a request, to save hours of work in vain."""


def publish(home: Home, plan: Plan, content: Content, gates: Gates) -> LogEntry:
    """Make a checked candidate live; a second call finds what the first one did.

    Raises:
        Held: A rollback set a hold.
        PublishLost: Another release went live since the plan was made.
        ReleaseCorrupt: A file of the candidate is gone or damaged; the run is closed.
    """
    history = whole_history(home)
    for entry in history.entries:
        if entry.transaction == plan.run:
            return entry
    _check_base(home, plan, history)
    if history.hold is not None:
        raise Held(
            f"release {plan.run} is built and checked, but publishing is on hold since the rollback to "
            f"{history.hold.release} (log entry {history.hold.number}{_noted(history.hold)})",
            hint="`embedmill release unhold` lifts it; then run again",
        )
    with closed_if_corrupt(home, plan.run):
        manifest = seal(home, content, gates)
    terminal = home.create(
        home.run_key(plan.run, TERMINAL),
        Terminal(
            run=plan.run,
            outcome="publish",
            number=history.next_number,
            why="gates passed",
            created=home.now(),
        ),
    )
    if terminal.number != history.next_number:
        why = terminal.why if terminal.outcome == "abandon" else f"log entry {terminal.number} was taken"
        raise PublishLost(f"run {plan.run} was closed: {why}", hint="run again: it makes a new plan")
    return append(home, history, "publish", manifest.release, transaction=plan.run)


class BaseWatch:
    """Whether a plan's base is still the live release, while the plan is worked on; else it is in vain."""

    def __init__(self, home: Home, plan: Plan) -> None:
        """Read nothing yet."""
        self._home, self._plan = home, plan
        self._looked_s = home.world.monotonic()
        self._next_number = 1

    def look(self) -> None:
        """Look where it is time for it: once into the whole log, then whether it has another entry.

        Raises:
            PublishLost: Another release went live since the plan was made; the run is closed.
        """
        home, now_s = self._home, self._home.world.monotonic()
        if now_s - self._looked_s < LOG_LOOK_S:
            return
        self._looked_s = now_s
        if self._next_number > 1 and not home.exists(home.log_key(self._next_number)):
            return
        history = read_history(home)
        self._next_number = history.next_number
        if any(entry.transaction == self._plan.run for entry in history.entries):
            return
        if history.live != self._plan.base:  # which closes the run
            _check_base(home, self._plan, whole_history(home))


def _noted(entry: LogEntry) -> str:
    return f": {entry.note}" if entry.note else ""


def seal(home: Home, content: Content, gates: Gates) -> Manifest:
    """Create MANIFEST.json over all files of the candidate, or read the one that is there.

    Files that the base does not have are hashed: a release that cannot be opened must not go live. So a local
    one gets its stamp here.

    Raises:
        ReleaseCorrupt: A file is gone or damaged.
    """
    prefix = home.release_key(content.release)
    seal_verdicts(home, content, gates)
    documents = [_entry(home, prefix, name) for name in (CONTENT, GATES, REPORT)]
    files = sorted([*content_files(content), *documents], key=lambda entry: entry.path)
    seen = _seen(home, content.release, files)
    base = home.read(Content, home.release_key(content.base.release, CONTENT)) if content.base else None
    carried = {(entry.path, entry.sha256) for entry in content_files(base)} if base else set()

    def check(entry: FileEntry) -> None:
        if (entry.path, entry.sha256) in carried:
            _check_carried(home, f"{prefix}/{entry.path}", entry)
        else:
            home.verified(f"{prefix}/{entry.path}", entry)

    in_parallel(home.store, check, [entry for entry in files if not _looks_carried(entry, carried, seen)])
    manifest = Manifest(
        release=content.release, content_digest=content.content_digest, files=tuple(files), created=home.now()
    )
    sealed = home.create(home.release_key(content.release, MANIFEST), manifest.sealed())
    if seen is not None and sealed.files == manifest.files:
        same = [entry.path for entry in files if (entry.path, entry.sha256) in carried]
        known = release_folder(home, base.release) if base else None
        note_sealed(release_folder(home, content.release), sealed, seen, known, same)
    return sealed


def _seen(home: Home, release: str, files: Sequence[FileEntry]) -> Seen | None:
    """How a local release's files look before they are hashed; None of a remote one, or if one is gone."""
    if not isinstance(home.store, LocalPaths):
        return None
    with suppress(OSError):
        return seen_files(release_folder(home, release), files)
    return None


def _looks_carried(entry: FileEntry, carried: Collection[tuple[str, str]], seen: Seen | None) -> bool:
    """Whether a file was carried over and has been seen with its size."""
    if seen is None or (entry.path, entry.sha256) not in carried:
        return False
    return seen[entry.path][0] == entry.size_bytes


def _check_carried(home: Home, key: str, entry: FileEntry) -> None:
    try:
        size_bytes = home.store.head(key).size_bytes
    except ObjectMissing:
        size_bytes = -1
    if size_bytes != entry.size_bytes:
        raise ReleaseCorrupt(f"{key}: is not the file that was carried over")


def _check_base(home: Home, plan: Plan, history: History) -> None:
    if history.live != plan.base:
        live = history.live.release if history.live else "none"
        base = plan.base.release if plan.base else "none"
        why = f"planned on release {base}, but release {live} is live now"
        abandon(home, plan.run, why)
        raise PublishLost(f"run {plan.run}: {why}", hint="run again: it plans on top of the live one")


def _entry(home: Home, prefix: str, name: str) -> FileEntry:
    data = home.store.get(f"{prefix}/{name}")
    return FileEntry(path=name, size_bytes=len(data), sha256=sha256(data))
