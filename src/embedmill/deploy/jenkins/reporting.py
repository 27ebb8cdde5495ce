"""A run's verdicts as tests of a build, and its report as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from embedmill.errors import ObjectMissing, RunError
from embedmill.gates import OF_PRODUCTION, UNDECLARED
from embedmill.release.layout import REPORT
from embedmill.release.verdicts import verdicts_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.release.layout import Home
    from embedmill.spec.documents import Verdict


def report_files(home: Home, run: str) -> dict[str, bytes]:
    """`gates.xml` and `production.xml` in JUnit's format, and `report.html`.

    Raises:
        RunError: The run was not checked yet.
    """
    gates = verdicts_on(home, run)
    if gates is None:
        raise RunError(f"run {run}: is not checked yet", hint="`embedmill check` does it")
    here = [each for each in gates.verdicts if each.gate not in OF_PRODUCTION]
    there = [each for each in gates.verdicts if each.gate in OF_PRODUCTION]
    return {
        "gates.xml": junit("gates", here),
        "production.xml": junit("production", there),
        "report.html": _page(home, run),
    }


def junit(suite: str, verdicts: Sequence[Verdict]) -> bytes:
    """A test for each verdict; accepted ones pass, and say so, and those with nothing to test were skipped.

    No verdicts: one test that was skipped.
    """
    failed = sum(not (each.passed or each.accepted) for each in verdicts)
    name = quoteattr(f"embedmill {suite}")
    tests = max(1, len(verdicts))
    skipped = sum(each.passed and each.message in UNDECLARED for each in verdicts) + int(not verdicts)
    head = f"<testsuite name={name} tests='{tests}' failures='{failed}' skipped='{skipped}'>"
    cases = [_case(suite, each) for each in verdicts] or [_skipped(suite)]
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', head, *cases, "</testsuite>", ""]).encode(
        "utf-8", "xmlcharrefreplace"
    )


def _case(suite: str, verdict: Verdict) -> str:
    head = f"<testcase classname={quoteattr(suite)} name={quoteattr(verdict.gate)}>"
    said = quoteattr(_printable(verdict.message))
    if verdict.passed and verdict.message in UNDECLARED:
        return f"{head}<skipped message={said}/></testcase>"
    if verdict.passed:
        return f"{head}</testcase>"
    if verdict.accepted:
        return f"{head}<system-out>accepted</system-out></testcase>"
    return f"{head}<failure message={said}/></testcase>"


def _skipped(suite: str) -> str:
    return f"<testcase classname={quoteattr(suite)} name='none'><skipped/></testcase>"


def _printable(text: str) -> str:
    """Without what XML has no form for."""
    return "".join(each if each.isprintable() or each == "\n" else " " for each in text)


def _page(home: Home, run: str) -> bytes:
    for key in (home.release_key(run, REPORT), home.run_key(run, REPORT)):
        try:
            return home.store.get(key)
        except ObjectMissing:
            continue
    raise RunError(f"run {run}: has no report", hint="`embedmill check` writes it")
