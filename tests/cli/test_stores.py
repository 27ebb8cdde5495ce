"""`store check`: what an operator sees of a store that is fit, and of one that is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.terminal import Terminal

from embedmill.store import opening
from embedmill.store.checks import CHECKS
from embedmill.store.memory import MemoryStore
from embedmill.store.probe import require_fit


class Unfit(MemoryStore):
    """Ignores the condition of a create."""

    put_if_absent = MemoryStore.put


@pytest.fixture
def unfit(monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a store that creates an object twice."""
    monkeypatch.setitem(opening._MEMORY, "unfit", Unfit("unfit"))
    return "memory://unfit"


def test_a_fit_store_gets_a_table_of_all_that_it_was_asked(tmp_path: Path, embedmill: Terminal) -> None:
    said = embedmill("store", "check", tmp_path / "store")
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()[2:]] == list(CHECKS)
    assert said.err == ""


def test_several_urls_are_doors_of_one_store(tmp_path: Path, embedmill: Terminal) -> None:
    url = str(tmp_path / "store")
    report = embedmill.json("store", "check", url, f"file://{url}")
    assert (report["schema"], report["fit"], report["urls"]) == ("store-check/1", True, [url, url])
    assert {each["check"] for each in report["findings"]} == set(CHECKS)


def test_different_stores_are_no_doors_of_one(tmp_path: Path, embedmill: Terminal) -> None:
    said = embedmill("store", "check", tmp_path / "one", tmp_path / "other")
    assert said.code == 1
    assert said.out.count("FAIL") > 3


def test_an_unfit_store_ends_with_1_and_the_names_of_the_checks(unfit: str, embedmill: Terminal) -> None:
    said = embedmill("store", "check", unfit)
    assert said.code == 1
    assert said.out.count("FAIL") >= 3
    assert said.err.startswith(
        "error: memory://unfit: not fit for releases: create-once: a taken key was created again;"
    )
    report = embedmill.json("store", "check", unfit, code=1)
    assert not report["fit"]
    assert {each["check"] for each in report["findings"] if not each["passed"]} >= {
        "create-once",
        "create-race",
    }


def test_a_store_that_turns_out_unfit_is_asked_again_by_the_next_run(
    embedmill: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))
    store = MemoryStore("upgraded")
    require_fit(store)
    monkeypatch.setitem(opening._MEMORY, "upgraded", Unfit("upgraded"))
    assert list((tmp_path / "cache" / "stores").iterdir())
    embedmill("store", "check", store.url)
    assert not list((tmp_path / "cache" / "stores").iterdir())


def test_a_store_that_cannot_be_written_is_an_error_and_no_verdict(embedmill: Terminal) -> None:
    said = embedmill("store", "check", "/sys/embedmill")
    assert said.code == 1
    assert said.out == ""
    assert said.err.startswith("error: /sys/")
