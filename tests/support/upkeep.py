"""What tests of tidying up share: a store that tells of each call, and what of a store is an orphan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from tests.support.mill import Mill, items

from embedmill.release.layout import MANIFEST, TERMINAL, Home
from embedmill.release.log import read_history
from embedmill.release.runs import open_plans
from embedmill.spec.document import now
from embedmill.spec.documents import Manifest, Terminal
from embedmill.store import Body, ObjectInfo, Store
from embedmill.store.memory import MemoryStore

Told = Callable[[str, str], object]
Result = TypeVar("Result")


class Crashed(Exception):
    """The process ended here."""


class WatchedStore(Store):
    """Hands every call on, and tells of it before and after: method and key."""

    def __init__(self, store: Store, before: Told = lambda *_: None, after: Told = lambda *_: None) -> None:
        self.url, self._store, self._before, self._after = store.url, store, before, after

    def get(self, key: str) -> bytes:
        return self._told("get", key, lambda: self._store.get(key))

    def head(self, key: str) -> ObjectInfo:
        return self._told("head", key, lambda: self._store.head(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        yield from self._told("list", prefix, lambda: [*self._store.list(prefix)])

    def put(self, key: str, body: Body, *, if_match: str | None = None) -> str:
        return self._told("put", key, lambda: self._store.put(key, body, if_match=if_match))

    def put_if_absent(self, key: str, body: Body) -> str:
        return self._told("put_if_absent", key, lambda: self._store.put_if_absent(key, body))

    def delete(self, key: str) -> None:
        self._told("delete", key, lambda: self._store.delete(key))

    def _told(self, method: str, key: str, call: Callable[[], Result]) -> Result:
        self._before(method, key)
        try:
            return call()
        finally:
            self._after(method, key)


def watched(home: Home, before: Told = lambda *_: None, after: Told = lambda *_: None) -> Home:
    return Home(WatchedStore(home.store, before, after), home.pipeline)


def at_call(number: int, act: Callable[[], object]) -> Told:
    """Acts once, at the call of that number (from 0)."""
    count = -1

    def told(method: str, key: str) -> None:
        nonlocal count
        count += 1
        if count == number:
            act()

    return told


def at_call_of(method: str, ending: str, act: Callable[[], object], *, number: int = 0) -> Told:
    """The same, counting only calls of that method with keys that end so."""
    counted = at_call(number, act)
    return lambda called, key: counted(called, key) if called == method and key.endswith(ending) else None


def at_creation_of(ending: str, act: Callable[[], object]) -> Told:
    """Acts just before the first object whose key ends so is created."""
    return at_call_of("put_if_absent", ending, act)


def crash() -> None:
    raise Crashed


def copy_of(home: Home) -> Home:
    """All objects in a store of their own."""
    store = MemoryStore("copy")
    for info in home.store.list(""):
        store.put(info.key, home.store.get(info.key))
    return Home(store, home.pipeline)


def in_days(days: float) -> Callable[[], datetime]:
    """A clock that is ahead."""
    return lambda: datetime.now(UTC) + timedelta(days=days)


def sizes(home: Home) -> dict[str, int]:
    """Bytes of each object of the pipeline."""
    return {info.key: info.size_bytes for info in home.store.list(home.pipeline)}


def reachable(home: Home) -> set[str]:
    """The log, what it keeps alive, all of open runs, how runs ended, and who won the shards of releases."""
    there, found = sizes(home), {f"{home.pipeline}/HEAD"}
    found |= {key for key in there if key.startswith(f"{home.pipeline}/log/") or key.endswith(f"/{TERMINAL}")}
    for release in read_history(home).published():
        manifest = home.read(Manifest, home.release_key(release.release, MANIFEST))
        names = [MANIFEST, *(entry.path for entry in manifest.files)]
        found |= {home.release_key(release.release, name) for name in names}
        commits = home.run_key(release.release, "commits") + "/"
        found |= {key for key in there if key.startswith(commits)}
    for plan in open_plans(home):
        own = (home.run_key(plan.run) + "/", home.release_key(plan.run) + "/")
        found |= {key for key in there if key.startswith(own)}
    return found


def orphan_share(home: Home) -> float:
    """Bytes that nothing leads to, as a share of all."""
    there, wanted = sizes(home), reachable(home)
    assert wanted <= set(there), "something that is needed is gone"
    return sum(size for key, size in there.items() if key not in wanted) / sum(there.values())


def publish_many(mill: Mill, count: int) -> list[str]:
    return [mill.run(items(8 + n)).release for n in range(count)]


def publishing(run: str, number: int) -> Terminal:
    """How a run ends just before it takes this number."""
    return Terminal(run=run, outcome="publish", number=number, why="gates passed", created=now())


EVERYWHERE = pytest.mark.parametrize("mill", ["memory", "local"], indirect=True)
"""Runs a test on both stores, where its file has a fixture `mill` that is `placed`."""


def placed(mill: Mill, request: pytest.FixtureRequest) -> Mill:
    """In memory, which is faster, unless a test wants to be everywhere."""
    if getattr(request, "param", "memory") == "memory":
        mill.settings["store"] = f"memory://{mill.root.name}"
    return mill
