"""A local store makes an object of a file by a link, where the file system can make one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from embedmill.errors import ObjectExists
from embedmill.store import Adopts, Store
from embedmill.store.faults import AnswerLost, At, Fault, Late, Refused, Script
from embedmill.store.faulty import FaultyStore, VirtualClock
from embedmill.store.local import LocalStore
from embedmill.store.retrying import RetryingStore

FAULTS: dict[str, Fault] = {"refused": Refused(), "answer lost": AnswerLost(), "late": Late(1)}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def test_an_adopted_file_is_the_object_and_cannot_be_written_to(store: LocalStore, tmp_path: Path) -> None:
    file = tmp_path / "made"
    file.write_bytes(b"1")
    assert store.adopt_if_absent("a/b", file) == store.head("a/b").etag
    assert store.path("a/b").samefile(file)
    assert file.stat().st_mode & 0o777 == 0o444
    file.unlink()
    assert store.get("a/b") == b"1"


def test_a_file_that_has_another_name_is_copied_and_left_as_it_is(store: LocalStore, tmp_path: Path) -> None:
    file = tmp_path / "made"
    file.write_bytes(b"1")
    os.link(file, tmp_path / "elsewhere")
    file.chmod(0o644)
    before = file.stat()
    assert store.adopt_if_absent("a", file) == store.head("a").etag
    assert not store.path("a").samefile(file)
    after = file.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


def test_what_lies_on_another_file_system_is_copied(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "made"
    file.write_bytes(b"1")
    link = os.link

    def as_across(source: Path, target: Path) -> None:
        if Path(source) == file:
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source), None, str(target))
        link(source, target)

    monkeypatch.setattr(os, "link", as_across)
    store.adopt_if_absent("a", file)
    file.unlink()
    assert store.get("a") == b"1"


def patient(inner: Store, fault: Fault) -> RetryingStore:
    """A store that is asked again after this fault of the first adoption."""
    clock = VirtualClock()
    faulty = FaultyStore(inner, Script(At(fault, "adopt_if_absent")))
    return RetryingStore(faulty, sleep=clock.sleep, clock=clock.now)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_an_adoption_without_an_answer_is_settled(store: LocalStore, tmp_path: Path, fault: Fault) -> None:
    file = tmp_path / "made"
    file.write_bytes(b"1")
    asked = patient(store, fault)
    assert isinstance(asked, Adopts)
    assert asked.adopt_if_absent("a", file) == store.head("a").etag
    assert store.get("a") == b"1"


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_an_adoption_without_an_answer_to_a_taken_key_fails(
    store: LocalStore, tmp_path: Path, fault: Fault
) -> None:
    store.put_if_absent("a", b"there before")
    file = tmp_path / "made"
    file.write_bytes(b"1")
    asked = patient(store, fault)
    assert isinstance(asked, Adopts)
    with pytest.raises(ObjectExists):
        asked.adopt_if_absent("a", file)
    assert store.get("a") == b"there before"
