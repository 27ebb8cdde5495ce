from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from benchmarks.page import main, page, section
from benchmarks.support.measuring import Findings, Verdict, not_run


def test_a_section_has_the_command_the_machine_the_lines_and_each_bound() -> None:
    verdicts = [Verdict("of the peak", 0.7512, 0.75), Verdict("seconds", 0.3, 0.25, at_least=False)]
    found = section(Findings("bench-text/1", {}, ["items   seconds"], verdicts).document())
    assert found.startswith("## Text\n")
    assert "cores, Python 3." in found
    assert "```text\nitems   seconds\n```" in found
    assert "| of the peak | 0.7512 | ≥ 0.75 | holds |" in found
    assert "| seconds | 0.3 | ≤ 0.25 | **missed** |" in found


def test_what_has_no_bound_has_no_table() -> None:
    assert "| bound |" not in section(Findings("bench-peak/1", {}, ["2 cores: 180"], []).document())


def test_the_page_keeps_the_order_of_its_documents_and_says_what_was_not_measured() -> None:
    documents = {name: Findings(f"bench-{name}/1", {}, [], []).document() for name in ("b", "a")}
    found = page(documents)
    assert found.index("## B") < found.index("## A")
    assert "no figure of a GPU exists" in found


def test_what_has_no_document_is_named_and_the_others_are_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "words.json").write_text("not run: there is no gcc\n")
    (tmp_path / "peak.json").write_text(json.dumps(Findings("bench-peak/1", {}, ["180"], []).document()))
    files = [str(tmp_path / f"{name}.json") for name in ("empty", "words", "absent", "peak")]
    monkeypatch.setattr(sys, "argv", ["page", *files, "--into", str(tmp_path / "limits.md")])
    assert main() == 0
    found = (tmp_path / "limits.md").read_text()
    assert "## Peak\n" in found
    for name in ("empty", "words", "absent"):
        assert f"\nNot measured: {name}.\n" in found


def test_a_page_that_cannot_be_made_leaves_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "limits.md").write_text("of yesterday")
    arguments = ["page", str(tmp_path / "other.json"), "--into", str(tmp_path / "limits.md")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(KeyError):
        main()
    assert (tmp_path / "limits.md").read_text() == "of yesterday"


def test_a_benchmark_that_does_not_run_leaves_no_words_among_the_documents(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert not_run("there is no gcc") == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "not run: there is no gcc\n")
