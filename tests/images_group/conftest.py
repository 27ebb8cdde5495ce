"""The group is that part of the core tests that decodes and fetches images, from a server, hostile or not."""

from __future__ import annotations

import pytest
from tests.support.groups import take


def pytest_configure(config: pytest.Config) -> None:
    """Collect them."""
    take(config, "images")
