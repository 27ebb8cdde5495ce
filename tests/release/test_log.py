"""The log: what is live follows from entries that are created once and never changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedmill.errors import (
    LogGap,
    ObjectMissing,
    PublishLost,
    ReleaseMissing,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from embedmill.release.layout import MANIFEST, Home
from embedmill.release.log import (
    MOST_LOOKED_INTO,
    History,
    Kind,
    append,
    live_release,
    read_history,
    whole_history,
)
from embedmill.spec.document import now
from embedmill.spec.documents import LogEntry, Manifest, ReleaseName
from embedmill.store import ObjectInfo
from embedmill.store.memory import MemoryStore
from embedmill.world import World

KINDS: list[Kind] = ["publish", "rollback", "unhold", "pin", "unpin", "retire"]


class Waiting(World):
    """Notes how long somebody waits, and lets something happen after the first pauses."""

    def __init__(self) -> None:
        self.slept_s: list[float] = []
        self.after_pauses: tuple[int, Callable[[], object]] | None = None

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        if self.after_pauses and len(self.slept_s) == self.after_pauses[0]:
            self.after_pauses[1]()


@pytest.fixture
def world() -> Waiting:
    return Waiting()


@pytest.fixture
def home(world: Waiting) -> Home:
    """With sealed releases a, b and c, none of them in the log."""
    home = Home(MemoryStore(), "shop", world)
    for name in "abc":
        manifest = Manifest(release=name, content_digest="", files=(), created=now()).sealed()
        home.create(home.release_key(name, MANIFEST), manifest)
    return home


def write(home: Home, *steps: tuple[Kind, str]) -> History:
    for kind, release in steps:
        append(home, read_history(home), kind, release)
    return read_history(home)


def test_an_empty_log_has_nothing_live_and_says_what_to_do(home: Home) -> None:
    history = read_history(home)
    assert (history.head, history.live, history.hold, history.next_number) == (None, None, None, 1)
    with pytest.raises(ReleaseMissing, match="nothing was published yet"):
        live_release(home)


@pytest.mark.parametrize("lost", [1, 2])
def test_an_entry_that_was_lost_is_told_and_nothing_takes_its_place(home: Home, lost: int) -> None:
    history = write(home, ("publish", "a"), ("publish", "b"), ("publish", "c"))
    entry = home.store.get(home.log_key(lost))
    home.store.delete(home.log_key(lost))
    with pytest.raises(LogGap, match=rf"0{lost}.json: is missing, and entry 3 is there") as said:
        read_history(home)
    assert "put it back" in said.value.hint
    home.store.put(home.log_key(lost), entry)
    assert read_history(home) == history


def test_an_entry_that_comes_late_to_this_reader_is_waited_for_some_seconds(
    home: Home, world: Waiting
) -> None:
    history = write(home, ("publish", "a"), ("publish", "b"), ("publish", "c"))
    assert world.slept_s == []
    key, entry = home.log_key(2), home.store.get(home.log_key(2))
    home.store.delete(key)
    world.after_pauses = 3, lambda: home.store.put(key, entry)
    assert read_history(home) == history
    assert len(world.slept_s) == 3
    home.store.delete(key)
    world.after_pauses, world.slept_s = None, []
    with pytest.raises(LogGap):
        read_history(home)
    assert 3 < sum(world.slept_s) < 10


@pytest.mark.parametrize("hint", [None, b"1\n", b"2\n"])
def test_no_entry_takes_the_place_of_a_lost_one_that_the_hint_does_not_tell(
    home: Home, hint: bytes | None
) -> None:
    history = write(home, ("publish", "a"), ("publish", "b"), ("publish", "c"))
    entry = home.store.get(home.log_key(2))
    home.store.delete(home.log_key(2))
    home.store.delete("shop/HEAD")
    if hint is not None:
        home.store.put("shop/HEAD", hint)
    before = read_history(home)
    assert before.next_number == 2
    gap = r"02.json: is missing, and entry 3 is there"
    with pytest.raises(LogGap, match=gap):
        append(home, before, "pin", "a")
    with pytest.raises(LogGap, match=gap):
        whole_history(home)
    home.store.put(home.log_key(2), entry)
    assert read_history(home) == whole_history(home) == history


def test_who_acts_on_a_log_waits_for_all_entries_that_are_listed(home: Home, world: Waiting) -> None:
    history = write(home, ("publish", "a"), ("publish", "b"))

    class LateLog(MemoryStore):
        """Says of the last entry that it is not there until somebody has waited twice."""

        def get(self, key: str) -> bytes:
            if key == home.log_key(2) and len(world.slept_s) < 2:
                raise ObjectMissing(key)
            return home.store.get(key)

        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            return home.store.list(prefix)

    late = Home(LateLog(), "shop", world)
    assert read_history(late).next_number == 2
    assert whole_history(late) == history


def test_other_files_in_the_folder_of_the_log_are_no_entries(home: Home) -> None:
    home.store.put("shop/log/00000009.json.bak", b"")
    home.store.put("shop/log/notes/00000009.txt", b"")
    home.store.put("shop/log/backup/00000009.json", b"{}")
    assert [entry.number for entry in write(home, ("publish", "a"), ("pin", "a")).entries] == [1, 2]


@pytest.mark.parametrize("failure", [StoreUnavailable("no answer"), StoreDenied("403")])
def test_a_hint_that_cannot_be_read_is_not_taken_for_none(home: Home, failure: StoreError) -> None:
    write(home, ("publish", "a"), ("publish", "b"), ("publish", "c"))
    home.store.delete(home.log_key(2))

    class Hidden(MemoryStore):
        """Says nothing of HEAD."""

        def get(self, key: str) -> bytes:
            if key == "shop/HEAD":
                raise failure
            return home.store.get(key)

    with pytest.raises(type(failure)):
        read_history(Home(Hidden(), "shop"))


@pytest.mark.parametrize("hint", [None, b"", b"1\n", b"99", b"-7", b"nonsense"])
def test_a_hint_that_lags_behind_or_is_wrong_changes_nothing(home: Home, hint: bytes | None) -> None:
    history = write(home, ("publish", "a"), ("publish", "b"))
    home.store.delete("shop/HEAD")
    if hint is not None:
        home.store.put("shop/HEAD", hint)
    assert read_history(home) == history


def test_entries_that_are_written_while_the_log_is_read_are_read_too(home: Home) -> None:
    whole = write(home, ("publish", "a"), ("publish", "b"), ("publish", "c"))

    class Late(MemoryStore):
        """Says once of the second entry that it is not there, as before it is written."""

        asked = 0

        def get(self, key: str) -> bytes:
            self.asked += key == home.log_key(2)
            if key == home.log_key(2) and self.asked == 1:
                raise ObjectMissing(key)
            return home.store.get(key)

        def head(self, key: str) -> ObjectInfo:
            return home.store.head(key)

    late = Late()
    assert read_history(Home(late, "shop")) == whole
    assert late.asked == 2


def test_a_misspelt_pipeline_is_told_which_ones_the_store_has(home: Home) -> None:
    write(home, ("publish", "a"))
    home.store.put("notes/readme.txt", b"no pipeline")
    with pytest.raises(ReleaseMissing, match="nothing was published yet") as caught:
        live_release(Home(home.store, f"{home.pipeline}2"))
    assert f"did you mean `{home.pipeline}`? the store has: {home.pipeline};" in caught.value.hint
    with pytest.raises(ReleaseMissing) as caught:
        live_release(Home(home.store, "other"))
    assert caught.value.hint.startswith(f"the store has: {home.pipeline}; `embedmill run` publishes")


def test_a_misspelt_pipeline_is_found_among_very_many_folders(home: Home) -> None:
    write(home, ("publish", "a"))
    for number in range(MOST_LOOKED_INTO):
        home.store.put(f"{number:08d}/log/00000001.json", b"unlike")
    with pytest.raises(ReleaseMissing) as caught:
        live_release(Home(home.store, f"{home.pipeline}2"))
    assert f"the store has: {home.pipeline};" in caught.value.hint


def test_the_newest_publish_or_rollback_is_live_under_the_number_of_its_first_publish(home: Home) -> None:
    history = write(home, ("publish", "a"), ("publish", "b"), ("rollback", "a"), ("pin", "b"))
    assert history.live == ReleaseName(release="a", number=1)
    assert live_release(home) == history.live
    assert history.next_number == 5
    assert [entry.number for entry in history.entries] == [1, 2, 3, 4]


def test_a_rollback_holds_until_an_unhold_or_a_publish(home: Home) -> None:
    history = write(home, ("publish", "a"), ("publish", "b"), ("rollback", "a"), ("pin", "a"))
    assert history.hold is not None
    assert history.hold.number == 3
    assert write(home, ("unhold", "a")).hold is None
    assert write(home, ("rollback", "b")).hold is not None
    assert write(home, ("publish", "c")).hold is None


def test_releases_are_found_by_name_or_number_unless_retired(home: Home) -> None:
    history = write(home, ("publish", "a"), ("pin", "a"), ("publish", "b"), ("retire", "a"))
    assert history.published() == [ReleaseName(release="b", number=3)]
    assert history.find("b") == history.find("3") == ReleaseName(release="b", number=3)
    for name in ("2", "c", ""):
        with pytest.raises(ReleaseMissing, match="no release"):
            history.find(name)
    for name in ("a", "1"):
        with pytest.raises(ReleaseMissing, match=r"release a \(number 1\) was retired on \S+ by log entry 4"):
            history.find(name)
    assert history.number_of("a") == 1
    with pytest.raises(ReleaseMissing, match="never published"):
        history.number_of("c")


def test_an_entry_has_the_manifests_digest_and_its_parents(home: Home) -> None:
    write(home, ("publish", "a"), ("publish", "b"))
    entry = home.read(LogEntry, home.log_key(2))
    assert entry.manifest_digest == home.read(Manifest, home.release_key("b", MANIFEST)).digest
    one, two = (json.loads(home.store.get(home.log_key(number))) for number in (1, 2))
    assert one["parent"] == ""
    assert two["parent"] != ""


def test_a_release_without_a_manifest_cannot_enter_the_log(home: Home) -> None:
    with pytest.raises(ObjectMissing):
        append(home, read_history(home), "publish", "unsealed")
    assert read_history(home).head is None


@pytest.mark.parametrize("damage", ["another parent", "another number", "not json", "an older entry changed"])
def test_a_broken_chain_is_refused_and_names_the_entry(home: Home, damage: str) -> None:
    write(home, ("publish", "a"), ("publish", "b"), ("publish", "c"))
    key = home.log_key(1 if damage == "an older entry changed" else 2)
    entry = home.read(LogEntry, key)
    changes = {
        "another parent": entry.model_copy(update={"parent": "0" * 64}).to_bytes(),
        "another number": entry.model_copy(update={"number": 3}).to_bytes(),
        "an older entry changed": entry.model_copy(update={"release": "b"}).to_bytes(),
        "not json": b"{",
    }
    home.store.put(key, changes[damage])
    with pytest.raises(StoreError, match=r"log/00000002\.json"):
        read_history(home)


def test_a_writer_that_was_slower_loses_and_says_to_whom(home: Home) -> None:
    before = read_history(home)
    append(home, before, "publish", "a")
    with pytest.raises(PublishLost, match="log entry 1 was taken by release a"):
        append(home, before, "publish", "b")
    assert [entry.release for entry in read_history(home).entries] == ["a"]


def test_a_writer_finds_its_own_entry_when_the_answer_to_the_first_try_was_lost(home: Home) -> None:
    before = read_history(home)
    first = append(home, before, "publish", "a", transaction="run-1")
    assert append(home, before, "publish", "a", transaction="run-1") == first
    assert len(read_history(home).entries) == 1


def test_two_intents_without_a_name_are_never_one(home: Home) -> None:
    before = read_history(home)
    append(home, before, "pin", "a")
    with pytest.raises(PublishLost):
        append(home, before, "pin", "a")


def test_of_sixteen_writers_at_once_one_gets_the_number(home: Home) -> None:
    before = read_history(home)

    def attempt(writer: int) -> bool:
        try:
            append(home, before, "publish", "abc"[writer % 3], transaction=f"run-{writer}")
        except PublishLost:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(attempt, range(16)))
    assert sum(won) == 1
    assert read_history(home).entries[0].transaction == f"run-{won.index(True)}"


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from("abc"))))
def test_what_follows_from_a_log_is_what_a_reader_of_it_would_say(steps: list[tuple[Kind, str]]) -> None:
    first: dict[str, int] = {}
    live, held = None, False
    entries: list[LogEntry] = []
    for kind, release in steps:
        if kind == "publish" or release in first:
            number = len(entries) + 1
            entries.append(entry(number, kind, release))
            first.setdefault(release, number) if kind == "publish" else None
            live = release if kind in {"publish", "rollback"} else live
            held = kind == "rollback" or (held and kind not in {"publish", "unhold"})
    history = History(tuple(entries))
    assert history.live == (ReleaseName(release=live, number=first[live]) if live else None)
    assert (history.hold is not None) == held


def entry(number: int, kind: Kind, release: str) -> LogEntry:
    return LogEntry(
        number=number,
        kind=kind,
        release=release,
        manifest_digest="",
        parent="",
        transaction="",
        note="",
        created=now(),
    )
