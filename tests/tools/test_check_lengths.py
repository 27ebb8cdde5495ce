"""tools/check_lengths.py names what is too long, and where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "check_lengths.py"


def check(root: Path, source: str) -> subprocess.CompletedProcess[str]:
    (root / "src").mkdir()
    (root / "src" / "module.py").write_text(source)
    return subprocess.run([sys.executable, TOOL, root], capture_output=True, text=True, check=False)


def function_of(lines: int) -> str:
    return "def work():\n" + "    pass\n" * (lines - 1)


def test_a_file_and_a_function_at_the_limit_pass(tmp_path: Path) -> None:
    checked = check(tmp_path, function_of(60) + "x = 1\n" * 340)
    assert checked.returncode == 0
    assert checked.stdout == "1 files: none over 400 lines, no function over 60\n"


def test_a_function_over_60_lines_is_named_with_its_line(tmp_path: Path) -> None:
    checked = check(tmp_path, "x = 1\n" + function_of(61))
    assert checked.returncode == 1
    assert checked.stdout == "src/module.py:2: work has 61 lines, 60 are allowed: split it\n"
    assert "1 too long" in checked.stderr


def test_a_method_counts_as_a_function(tmp_path: Path) -> None:
    method = "class Worker:\n    async def work(self):\n" + "        pass\n" * 60
    assert check(tmp_path, method).stdout.startswith("src/module.py:2: work has 61 lines")


def test_a_file_over_400_lines_is_named(tmp_path: Path) -> None:
    checked = check(tmp_path, "x = 1\n" * 401)
    assert checked.returncode == 1
    assert checked.stdout == "src/module.py:401: the file has 401 lines, 400 are allowed: split it\n"
