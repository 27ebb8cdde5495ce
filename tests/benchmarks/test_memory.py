from __future__ import annotations

import sys

import pytest
from benchmarks.support.memory import ran

HUNGRY = "import sys, time; held = b'x' * (int(sys.argv[1]) << 20); time.sleep(0.4); print(len(held))"
FORKS = "import os, time; held = b'x' * (64 << 20); os.fork() or time.sleep(0.4); time.sleep(0.4)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HUNGRY!r}, '64'], check=True)"


def test_the_peak_of_a_command_has_what_it_held() -> None:
    found = ran([sys.executable, "-c", HUNGRY, "64"])
    assert 64 <= found.largest_mib < 128
    assert found.stdout == f"{64 << 20}\n"


def test_the_peak_of_all_has_what_children_held() -> None:
    found = ran([sys.executable, "-c", PARENT])
    assert found.largest_mib >= 64
    assert found.together_mib > found.largest_mib


def test_a_child_that_runs_no_program_yet_has_its_parents_memory() -> None:
    assert 64 <= ran([sys.executable, "-c", FORKS]).together_mib < 128


def test_a_command_that_fails_says_what_it_said() -> None:
    with pytest.raises(SystemExit, match="no such thing"):
        ran([sys.executable, "-c", "import sys; sys.exit('no such thing')"])
