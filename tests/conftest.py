"""What every test has: skips that count, large counts, and a cache of its own (support/)."""

from __future__ import annotations

pytest_plugins = ["pytester", "tests.support.skips", "tests.support.soak", "tests.support.mill"]
