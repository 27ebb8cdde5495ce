"""Under CI=true a skip is a failure, unless tests/allowed_skips.txt has the test's id with a reason."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

ALLOWED = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    file = config.rootpath / "tests" / "allowed_skips.txt"
    config.stash[ALLOWED] = read_allowed(file) if file.is_file() else {}


def read_allowed(file: Path) -> dict[str, str]:
    """Test id → reason."""
    allowed = {}
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        test_id, _, reason = line.partition(" # ")
        if not reason.strip():
            raise pytest.UsageError(f"{file}:{number}: '{line}' has no reason; write 'ID # REASON'")
        allowed[test_id.strip()] = reason.strip()
    return allowed


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        forbid_in_ci(report, item.config)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        forbid_in_ci(report, collector.config)
    return report


def forbid_in_ci(report: Any, config: pytest.Config) -> None:
    allowed = config.stash[ALLOWED]
    if os.environ.get("CI") != "true" or report.nodeid in allowed or report.nodeid.split("[")[0] in allowed:
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid}: {reason}; CI allows only the skips in tests/allowed_skips.txt"
