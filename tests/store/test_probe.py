"""The probe finds every broken store by the check that is for it, passes honest ones, and leaves nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.store.broken_stores import BROKEN, RACY, IgnoresTheCondition, KeepsWhatIsDeleted, Over, two_doors
from tests.support.stores import keys, troubled

from embedmill.errors import SpecError, StoreAbsent, StoreDenied, StoreFull, StoreUnavailable, StoreUnfit
from embedmill.spec.reports import ProbeReport
from embedmill.store import Store
from embedmill.store.budget import RetryPolicy
from embedmill.store.checks import CHECKS
from embedmill.store.faults import At, Blackout, Full, Script
from embedmill.store.faulty import FaultyStore, VirtualClock
from embedmill.store.local import LocalStore
from embedmill.store.memory import MemoryStore
from embedmill.store.probe import forget_fit, probe, raise_unfit, require_fit
from embedmill.store.retrying import RetryingStore

HONEST: dict[str, Callable[[Path], list[Store]]] = {
    "memory": lambda folder: [MemoryStore()],
    "local": lambda folder: [LocalStore(folder / "store")],
    "local through two doors": lambda folder: [LocalStore(folder / "store"), LocalStore(folder / "store")],
    "without copies of its own": lambda folder: [Over()],
    "troubled": lambda folder: [troubled(MemoryStore())],
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def failed(report: ProbeReport) -> set[str]:
    return {each.check for each in report.findings if not each.passed}


@pytest.mark.parametrize("stores", HONEST.values(), ids=HONEST)
def test_an_honest_store_is_fit_and_left_as_it_was(
    stores: Callable[[Path], list[Store]], tmp_path: Path
) -> None:
    doors = stores(tmp_path)
    doors[0].put("mine", b"stays")
    report = probe(doors)
    assert not failed(report), report
    assert report.fit
    assert [each.check for each in report.findings] == list(CHECKS)
    assert keys(doors[0]) == ["mine"]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_store_is_found_by_the_checks_that_are_for_it_and_left_clean(name: str) -> None:
    doors = BROKEN[name].open()
    report = probe(doors)
    assert not report.fit
    assert BROKEN[name].found_by <= failed(report), report
    with pytest.raises(StoreUnfit) as caught:
        raise_unfit(report)
    assert all(check in caught.value.message for check in failed(report))
    assert isinstance(doors[0], Over)
    assert isinstance(doors[0], KeepsWhatIsDeleted) or keys(doors[0].inner) == []


@pytest.mark.soak(quick=1, large=20)
@pytest.mark.parametrize("name", RACY)
def test_a_store_that_is_wrong_only_in_races_is_found_by_the_race_alone(name: str, seed: int) -> None:
    assert failed(probe(BROKEN[name].open())) == BROKEN[name].found_by


def test_a_door_that_arbitrates_for_itself_passes_alone() -> None:
    for door in two_doors():
        assert probe([door]).fit


def test_each_check_is_needed() -> None:
    alone = {next(iter(each.found_by)) for each in BROKEN.values() if len(each.found_by) == 1}
    assert alone | {"create-once"} == set(CHECKS)


def test_a_probe_that_breaks_off_leaves_nothing_either() -> None:
    faulty = FaultyStore(MemoryStore(), Script(At(Full(), key="*/etag")))
    with pytest.raises(StoreFull):
        probe([faulty])
    assert keys(faulty.inner) == []


def test_a_probe_makes_a_bounded_number_of_requests() -> None:
    faulty = FaultyStore(MemoryStore())
    probe([faulty])
    assert len(faulty.trace) < 400


def test_no_answer_and_no_permission_are_no_findings(tmp_path: Path) -> None:
    silent = RetryingStore(FaultyStore(MemoryStore(), Blackout(50, 10**9)), RetryPolicy(deadline_s=0.1))
    with pytest.raises(StoreUnavailable):
        probe([silent])
    with pytest.raises(StoreDenied):
        probe([LocalStore("/sys/embedmill")])
    (tmp_path / "file").touch()
    with pytest.raises(StoreAbsent, match="not a directory"):
        probe([LocalStore(tmp_path / "file" / "mill")])
    with pytest.raises(SpecError):
        probe([])


def test_an_error_begins_with_the_url_of_the_store_and_not_with_a_key_of_the_probe() -> None:
    url = MemoryStore("one").url
    with pytest.raises(StoreFull) as full:
        require_fit(FaultyStore(MemoryStore("one"), Script(At(Full()))))
    silent = RetryingStore(FaultyStore(MemoryStore("one"), Blackout(0, 10**9)), RetryPolicy(deadline_s=0.1))
    with pytest.raises(StoreUnavailable) as away:
        probe([silent])
    for error in (full.value, away.value):
        assert error.message.startswith(f"{url}: ")
        assert "embedmill-probe" not in error.message


@pytest.mark.parametrize("answers", [0, 5])
def test_a_store_that_gives_no_answer_is_waited_for_once(answers: int) -> None:
    clock = VirtualClock()
    silent = FaultyStore(MemoryStore(), Blackout(answers, 10**9))
    with pytest.raises(StoreUnavailable):
        probe([RetryingStore(silent, RetryPolicy(deadline_s=100), sleep=clock.sleep, clock=clock.now)])
    assert 100 <= clock.now() < 150


# Before the first run


def test_a_store_is_asked_once_from_a_machine() -> None:
    store = FaultyStore(MemoryStore("one"))
    require_fit(store)
    asked = len(store.trace)
    assert 0 < asked < 80
    require_fit(store)
    assert len(store.trace) == asked
    assert keys(store.inner) == []


@pytest.mark.parametrize(
    "elsewhere", ["AWS_ENDPOINT_URL", "GOOGLE_BASE_URL", "AZURE_STORAGE_ACCOUNT_NAME", "AWS_PROFILE"]
)
def test_it_is_asked_again_where_the_environment_names_another_place_or_once_forgotten(
    elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FaultyStore(MemoryStore("one"))
    require_fit(store)
    asked = len(store.trace)
    monkeypatch.setenv(elsewhere, "http://other")
    require_fit(store)
    assert len(store.trace) == 2 * asked
    forget_fit(store)
    require_fit(store)
    assert len(store.trace) == 3 * asked


def test_an_unfit_store_is_refused_each_time_it_is_asked() -> None:
    for _ in range(2):
        with pytest.raises(StoreUnfit, match=r"^memory://over: not fit for releases: create-once: "):
            require_fit(IgnoresTheCondition())


@pytest.mark.parametrize(
    "name", ["ignores the condition", "inverts the condition", "checks, then writes", "ignores If-Match"]
)
def test_the_quick_probe_finds_what_would_break_a_commit(name: str) -> None:
    with pytest.raises(StoreUnfit):
        require_fit(BROKEN[name].open()[0])


def test_a_damaged_note_or_a_cache_that_cannot_be_written_does_no_harm(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FaultyStore(MemoryStore("one"))
    require_fit(store)
    (note,) = (own_cache / "stores").iterdir()
    note.write_bytes(b"[]")
    asked = len(store.trace)
    require_fit(store)
    assert len(store.trace) == 2 * asked
    monkeypatch.setenv("EMBEDMILL_CACHE", "/sys/embedmill")
    require_fit(store)
    assert len(store.trace) == 3 * asked
