"""Tests that groups run instead of `make test`, though they need no more than it does: they take minutes.

They lie beside what they test. Whoever names a path gets what is there, and `make soak` takes all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

TAKEN: dict[str, tuple[str, ...]] = {
    "serving": (
        "serving",
        "client",
        "deploy",
        "cli/test_deploying.py",
        "cli/test_fetching.py",
        "cli/test_serving.py",
        "cli/test_verifying.py",
        "gates/test_graph.py",
        "gates/test_parity.py",
        "gates/test_production.py",
        "runtimes/test_hostile_servers.py",
        "runtimes/test_tf_serving.py",
    ),
    "images": (
        "decoding",
        "catalog/test_hostile_urls.py",
        "catalog/test_urls.py",
        "e2e/test_equal_contents.py",
        "e2e/test_hostile_images.py",
        "e2e/test_image_references.py",
        "e2e/test_image_urls.py",
        "e2e/test_images.py",
        "e2e/test_refused_images.py",
        "e2e/test_thumbnails.py",
    ),
    "fleet": (
        "devices",
        "engines",
        "fleet",
        "platform",
        "cli/test_borrowing.py",
        "cli/test_several.py",
        "cli/test_yielding.py",
        "contracts/test_engine.py",
        "e2e/test_several_pipelines.py",
        "test_seats.py",
    ),
    "sql": (  # servers of data: databases, and object stores
        "contracts/test_store_races.py",
        "e2e/test_s3.py",
        "e2e/test_s3_storm.py",
    ),
    "browser": ("docs/test_examples.py",),  # what readers see, and what they type
}
"""Group → folders and files that it takes."""


def take(config: pytest.Config, group: str) -> None:
    """Collect what a group takes, beside what lies in its own folder; not beside a part of that."""
    own = TESTS / f"{group}_group"
    if any(Path(config.invocation_params.dir, path).resolve() == own for path in config.args):
        config.args += [str(TESTS / path) for path in TAKEN[group]]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave to groups what they take, where no path was given."""
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if everything and not config.getoption("soak") and collection_path in _TAKEN:
        return True
    return None


_TAKEN = {TESTS / path for paths in TAKEN.values() for path in paths}
