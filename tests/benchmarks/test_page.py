from __future__ import annotations

from benchmarks.page import page, section
from benchmarks.support.measuring import Findings, Verdict


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
    documents = [Findings(f"bench-{name}/1", {}, [], []).document() for name in ("b", "a")]
    found = page(documents)
    assert found.index("## B") < found.index("## A")
    assert "no figure of a GPU exists" in found
