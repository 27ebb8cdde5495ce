"""tools/total_tests.py adds up the groups, and its last line is the total."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "total_tests.py"


def total(reports: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOL, reports], capture_output=True, text=True, check=False)


def test_the_total_is_what_pytest_reported_of_every_group(pytester: pytest.Pytester, tmp_path: Path) -> None:
    core = pytester.makepyfile(core="import pytest\ndef test_a(): pass\ndef test_b(): pytest.skip('x')")
    torch = pytester.makepyfile(torch="def test_a(): pass\ndef test_b(): assert 0\ndef test_c(missing): pass")
    for file in (core, torch):
        pytester.runpytest_subprocess(file, f"--junitxml={tmp_path / file.stem}.xml")
    counted = total(tmp_path)
    assert counted.stdout.splitlines() == [
        "core: 1 passed, 0 failed, 1 skipped",
        "torch: 1 passed, 2 failed, 0 skipped",
        "2 passed, 2 failed, 1 skipped",
    ]
    assert counted.returncode == 1


def test_all_passed_is_a_success(pytester: pytest.Pytester, tmp_path: Path) -> None:
    core = pytester.makepyfile(core="def test_a(): pass")
    pytester.runpytest_subprocess(core, f"--junitxml={tmp_path}/core.xml")
    counted = total(tmp_path)
    assert counted.stdout.splitlines()[-1] == "1 passed, 0 failed, 0 skipped"
    assert counted.returncode == 0


def test_no_test_at_all_is_not_a_success(tmp_path: Path) -> None:
    counted = total(tmp_path)
    assert counted.stdout == "0 passed, 0 failed, 0 skipped\n"
    assert counted.returncode == 1
