"""The group is what people see: the search page in a real browser, and the documentation's examples, typed."""

from __future__ import annotations

import pytest
from tests.support.groups import take


def pytest_configure(config: pytest.Config) -> None:
    """Collect the examples, too."""
    take(config, "browser")
