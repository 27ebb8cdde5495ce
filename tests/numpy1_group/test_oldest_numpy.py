"""The group computes with the oldest NumPy that pyproject.toml takes, and so do its workers."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np

SAY_VERSION = "import embedmill.work, numpy; print(numpy.__version__)"


def test_the_group_has_the_oldest_numpy_that_embedmill_takes() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    (oldest,) = (need for need in project["dependencies"] if need.startswith("numpy"))
    assert oldest == "numpy>=1.26"
    assert np.__version__.startswith("1.26.")


def test_a_process_of_its_own_has_it_too() -> None:
    said = subprocess.run([sys.executable, "-c", SAY_VERSION], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("1.26.")
