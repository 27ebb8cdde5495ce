"""What every test has: skips that count (support/skips.py) and large counts (support/soak.py)."""

from __future__ import annotations

pytest_plugins = ["pytester", "tests.support.skips", "tests.support.soak"]
