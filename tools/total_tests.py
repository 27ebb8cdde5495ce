"""Add up what the test groups wrote to build/reports; the last line is `N passed, N failed, N skipped`."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

REPORTS = Path(__file__).resolve().parent.parent / "build" / "reports"


def main() -> None:
    reports = sorted((Path(sys.argv[1]) if len(sys.argv) > 1 else REPORTS).glob("*.xml"))
    total: Counter[str] = Counter()
    for report in reports:
        counts = count(report)
        print(f"{report.stem}: {sentence(counts)}")
        total += counts
    print(sentence(total))
    if total["failed"] or not total["passed"]:
        sys.exit(1)


def count(report: Path) -> Counter[str]:
    suites = ElementTree.parse(report).getroot().iter("testsuite")  # noqa: S314 - pytest wrote it
    counts: Counter[str] = Counter()
    for suite in suites:
        failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
        skipped = int(suite.attrib["skipped"])
        counts.update(failed=failed, skipped=skipped, passed=int(suite.attrib["tests"]) - failed - skipped)
    return counts


def sentence(counts: Counter[str]) -> str:
    return f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped"


if __name__ == "__main__":
    main()
