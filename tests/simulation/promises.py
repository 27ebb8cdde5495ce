"""What must hold at every instant, checked by the store itself as it is written to."""

from __future__ import annotations

import itertools

from embedmill.errors import ObjectMissing
from embedmill.release.layout import CONTENT, GATES, MANIFEST, REPORT, Home
from embedmill.release.log import History, read_history
from embedmill.spec.document import sha256
from embedmill.spec.documents import Content, Manifest
from embedmill.store.base import Body, ObjectInfo, read_body
from embedmill.store.memory import MemoryStore


class Broken(AssertionError):
    """A promise was broken."""


def is_created_once(key: str) -> bool:
    """Whether an object decides something, or is named by what decides: all but hints and what is told."""
    parts = key.split("/")
    if parts[1] in {"log", "releases"}:
        return True
    return parts[1] == "runs" and parts[3] not in {"leases", "events", GATES, REPORT}


class WatchedStore(MemoryStore):
    """Objects in memory, and a guard: the log only grows, what is live or may become so is whole."""

    def __init__(self, pipeline: str) -> None:
        """Begin empty."""
        super().__init__("simulation")
        self.pipeline = pipeline
        self._raw = MemoryStore("raw view")
        self._raw._objects = self._objects
        self.home = Home(self._raw, pipeline)
        self._log: History = History(())
        self.published: list[str] = []

    def copy(self) -> WatchedStore:
        """A store of its own that begins with what is in this one."""
        other = WatchedStore(self.pipeline)
        other._objects.update(self._objects)
        other._versions = itertools.count(next(self._versions))
        other._log, other.published = self._log, list(self.published)
        return other

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        """Replace, but nothing that is for ever."""
        data = read_body(body)
        if is_created_once(key) and self._there(key):
            raise Broken(f"{key} was overwritten")
        return super().put(key, data, if_match=if_match)

    def put_if_absent(self, key: str, body: Body) -> str:
        """Create; a log entry only if what it makes live is whole."""
        data = read_body(body)
        etag = super().put_if_absent(key, data)
        if key.startswith(f"{self.pipeline}/log/"):
            self._log = read_history(self.home)
            self._check_entry()
        return etag

    def delete(self, key: str) -> None:
        """Delete, but nothing that is needed."""
        why = self._needed(key)
        if why and self._there(key):
            raise Broken(f"{key} was deleted, but {why}")
        super().delete(key)

    def whole(self, release: str) -> Manifest:
        """The manifest of a release all of whose files are what it says."""
        manifest = self.home.read(Manifest, self.home.release_key(release, MANIFEST))
        for entry in manifest.files:
            key = self.home.release_key(release, entry.path)
            try:
                data = self._raw.get(key)
            except ObjectMissing:
                raise Broken(f"{key} of a release is missing") from None
            if len(data) != entry.size_bytes or sha256(data) != entry.sha256:
                raise Broken(f"{key} of a release is damaged")
        return manifest

    def _check_entry(self) -> None:
        entry = self._log.entries[-1]
        if entry.kind == "publish":
            if entry.transaction in self.published:
                raise Broken(f"run {entry.transaction} was published twice")
            self.published.append(entry.transaction)
            before = History(self._log.entries[:-1])
            if before.hold is not None:
                raise Broken(f"{entry.release} was published although a hold stood")
            content = self.home.read(Content, self.home.release_key(entry.release, CONTENT))
            if content.base != before.live:
                raise Broken(f"{entry.release} was published on another base than the live release")
        if entry.kind in {"publish", "rollback"}:
            self.whole(entry.release)
        if entry.kind == "retire":
            before = History(self._log.entries[:-1])
            if before.live is not None and before.live.release == entry.release:
                raise Broken(f"{entry.release} was retired while it was live")
            if entry.release in before.pinned:
                raise Broken(f"{entry.release} was retired while it was pinned")

    def _is_for_ever(self, key: str) -> bool:
        return key.startswith(f"{self.pipeline}/log/") or key.endswith("/terminal.json")

    def _needed(self, key: str) -> str:
        """Why a key must stay; empty if it may go."""
        if self._is_for_ever(key):
            return "that is kept for ever"
        parts = key.split("/", 3)
        if parts[1] != "releases":
            return ""
        release, inside = parts[2], parts[3]
        if release not in {found.release for found in self._log.published()}:
            return ""
        manifest = self.home.read(Manifest, self.home.release_key(release, MANIFEST))
        named = {entry.path for entry in manifest.files} | {MANIFEST}
        return "a release that may be served names it" if inside in named else ""

    def _there(self, key: str) -> bool:
        try:
            self._raw.head(key)
        except ObjectMissing:
            return False
        return True


def reachable(store: MemoryStore, home: Home, history: History) -> set[str]:
    """Keys that something may still name: the log, terminals, and the files of releases."""
    keys = {info.key for info in store.list(home.pipeline) if info.key.endswith("/terminal.json")}
    keys |= {home.log_key(entry.number) for entry in history.entries} | {f"{home.pipeline}/HEAD"}
    for found in history.published():
        manifest = home.read(Manifest, home.release_key(found.release, MANIFEST))
        keys |= {home.release_key(found.release, entry.path) for entry in manifest.files}
        keys.add(home.release_key(found.release, MANIFEST))
        keys |= {info.key for info in store.list(home.run_key(found.release, "commits"))}
    return keys


def sizes(store: MemoryStore, prefix: str) -> dict[str, int]:
    """Bytes by key."""
    found: list[ObjectInfo] = list(store.list(prefix))
    return {info.key: info.size_bytes for info in found}
