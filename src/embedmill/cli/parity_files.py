"""What `verify` writes for others: JUnit XML for build servers, and a page for people."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from embedmill.cli.failures import one_line
from embedmill.release.report import page, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedmill.errors import EmbedmillError
    from embedmill.spec.parity import EncoderParity, ParityCheck, ParityReport


def junit(report: ParityReport) -> bytes:
    """A test suite for each encoder, a test for each check: the format that Jenkins' `junit` step reads."""
    suites = "".join(f"{line}\n" for encoder in report.encoders for line in _suite(encoder))
    tests = sum(len(each.checks) for each in report.encoders)
    failures = sum(len(each.failed) for each in report.encoders)
    name = quoteattr(f"embedmill verify {report.release}")
    head = f'<testsuites name={name} tests="{tests}" failures="{failures}" time="{report.seconds}">'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}\n{suites}</testsuites>\n'.encode()


def junit_of_error(release: str, url: str, error: EmbedmillError) -> bytes:
    """One test that ended in an error: the server was not compared."""
    name, suite = quoteattr(f"embedmill verify {release}"), quoteattr(url)
    said = f"<error type={quoteattr(error.code)} message={quoteattr(one_line(error.message))}/>"
    case = f"<testcase classname={suite} name={quoteattr('answers')}>{said}</testcase>"
    counts = 'tests="1" failures="0" errors="1"'
    body = f"<testsuites name={name} {counts}>\n<testsuite name={suite} {counts}>\n{case}\n</testsuite>\n"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}</testsuites>\n'.encode()


def _suite(encoder: EncoderParity) -> Iterator[str]:
    name, skipped = quoteattr(encoder.model), int(bool(encoder.skipped))
    tests, failures = len(encoder.checks) + skipped, len(encoder.failed)
    yield f'<testsuite name={name} tests="{tests}" failures="{failures}" skipped="{skipped}">'
    for check in encoder.checks:
        yield from _case(encoder.model, check)
    if encoder.skipped:
        yield f"<testcase classname={name} name={quoteattr('encoder')}>"
        yield f"<skipped message={quoteattr(one_line(encoder.skipped))}/></testcase>"
    yield "</testsuite>"


def _case(model: str, check: ParityCheck) -> Iterator[str]:
    head = f"<testcase classname={quoteattr(model)} name={quoteattr(check.check)}"
    if check.passed:
        yield f"{head}/>"
    else:
        yield f"{head}><failure message={quoteattr(one_line(check.message))}/></testcase>"


def parity_page(report: ParityReport) -> bytes:
    """One self-contained page, without scripts."""
    facts = [
        ("Release", f"{report.release} (number {report.number})"),
        ("Server", f"{report.url} ({report.protocol}) {report.server}"),
        ("Verdict", "passed" if report.passed else "failed"),
    ]
    body = [
        f"<h1>{escape(f'Is {report.url} release {report.release}?')}</h1>",
        table(("", ""), [(name, f"<code>{escape(one_line(value))}</code>") for name, value in facts]),
    ]
    for encoder in report.encoders:
        body.append(f"<h2>{escape(encoder.model)}</h2>")
        if encoder.skipped:
            body.append(f"<p>{escape(f'not asked: {one_line(encoder.skipped)}')}</p>")
        else:
            head = ("check", "verdict", "found", "lowest cosine", "p1", "median")
            body.append(table(head, map(_row, encoder.checks), numbers=3))
    return page(f"Embedmill: verify {report.release}", body)


def _row(check: ParityCheck) -> tuple[str, ...]:
    word = "pass" if check.passed else "fail"
    found = check.cosines
    cosines = ("", "", "") if found is None else (found.lowest, found.p1, found.median)
    said = (f"{each:.6f}" if isinstance(each, float) else each for each in cosines)
    verdict = f"<span class='{word}'>{word}</span>"
    return (escape(check.check), verdict, escape(one_line(check.message)), *said)
