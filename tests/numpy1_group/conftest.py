"""The group is the part of the core tests that computes, run in an environment with NumPy 1.26."""

from __future__ import annotations

import pytest

FOLDERS = ("model", "index", "planning", "runtimes", "gates")
FILES = {
    "catalog": ("columnar", "damage", "delimited", "files", "fingerprint", "jsonl", "schemas"),
    "contracts": ("runtime",),
    "decoding": ("colours", "images"),
    "release": (
        "assemble",
        "cells",
        "diff",
        "export",
        "goldens",
        "item_keys",
        "keys",
        "search",
        "segments",
        "values",
        "vectors",
    ),
    "e2e": ("edge_catalogs", "equivalence", "image_references", "images"),
}


def pytest_configure(config: pytest.Config) -> None:
    """Collect those beside what is here, under the names that they have in the core group."""
    tests = config.rootpath / "tests"
    config.args += [str(tests / folder) for folder in FOLDERS]
    config.args += [str(tests / folder / f"test_{name}.py") for folder in FILES for name in FILES[folder]]
