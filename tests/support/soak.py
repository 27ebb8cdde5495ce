"""Large counts: `make test` runs a test with a few fixed seeds, `make soak` the same test with many.

    @pytest.mark.soak(quick=3, large=500)
    def test_a_killed_run_resumes(seed: int) -> None: ...    seeds 0..2, or 0..499 with --soak

    @pytest.mark.soak                                        only with --soak
    def test_half_a_million_items() -> None: ...

Hypothesis makes the same 30 examples each time, and with --soak 100 new ones for each seed: leave
`max_examples` to the profile. Each passed test is noted in build/soak under a digest of the code, so that an
interrupted soak goes on where it ended, and changed code starts anew. When --soak-minutes are over,
pytest ends with exit code 75: run it again for the next part.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import hypothesis
import pytest

MORE_TO_RUN = 75


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("soak")
    group.addoption("--soak", action="store_true", help="run only the soak tests, with their large counts")
    group.addoption("--soak-minutes", type=float, help="start no test after so many minutes; exit code 75")


def pytest_configure(config: pytest.Config) -> None:
    soak = config.getoption("soak")
    if soak:
        hypothesis.settings.register_profile("soak", max_examples=100, deadline=None, print_blob=True)
        config.pluginmanager.register(Soak(config), "soak-session")
    else:
        hypothesis.settings.register_profile("quick", max_examples=30, deadline=None, derandomize=True)
    hypothesis.settings.load_profile("soak" if soak else "quick")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("soak")
    if marker and marker.kwargs:
        count = marker.kwargs["large" if metafunc.config.getoption("soak") else "quick"]
        metafunc.parametrize("seed", range(count))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("soak"):
        keep(items, [item for item in items if not only_soak(item)], config)


def only_soak(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("soak")
    return marker is not None and not marker.kwargs


def keep(items: list[pytest.Item], kept: list[pytest.Item], config: pytest.Config) -> None:
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


class Soak:
    """One part of a soak: runs what has not passed yet, until its time is over."""

    def __init__(self, config: pytest.Config) -> None:
        minutes = config.getoption("soak_minutes")
        self.end_s = time.monotonic() + minutes * 60 if minutes else float("inf")
        folder = config.rootpath / "build" / "soak"
        folder.mkdir(parents=True, exist_ok=True)
        self.notes = folder / f"{code_digest(config.rootpath)}.passed"
        self.passed = set(self.notes.read_text().splitlines()) if self.notes.is_file() else set()
        self.left = 0
        self.failing = False

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        soak = [item for item in items if item.get_closest_marker("soak")]
        keep(items, [item for item in soak if item.nodeid not in self.passed], config)
        self.left = len(items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failing |= report.failed
        if report.when == "teardown":
            self.left -= 1
            if not self.failing:
                self.note_passed(report.nodeid)
            self.failing = False

    def note_passed(self, nodeid: str) -> None:
        with self.notes.open("a") as notes:
            notes.write(nodeid + "\n")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if time.monotonic() < self.end_s:
            return None
        item.session.shouldstop = f"the time is over, {self.left} tests are left: run it again"
        return True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.INTERRUPTED and session.shouldstop:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED if session.testsfailed else MORE_TO_RUN
        if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self.passed:
            session.exitstatus = pytest.ExitCode.OK


def code_digest(root: Path) -> str:
    state = hashlib.sha256()
    for file in sorted(file for folder in ("src", "tests") for file in (root / folder).rglob("*.py")):
        state.update(str(file.relative_to(root)).encode() + b"\0")
        state.update(hashlib.sha256(file.read_bytes()).digest())
    return state.hexdigest()[:16]
