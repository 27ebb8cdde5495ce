"""A candidate that a gate starts as production's server has none of the limits that are for its callers."""

from __future__ import annotations

import sys

from tests.support.mill import Mill, items


def test_a_limit_of_requests_a_minute_is_none_of_the_gates(mill: Mill) -> None:
    command = [sys.executable, "-m", "embedmill", "serve", "{release}", "--port", "{port}", "--drain", "0"]
    mill.settings["serving"] = {
        "requests_per_minute": 6,
        "production": {"command": command, "ready": "/readyz"},
    }
    gates = mill.indexed(items(5)).check()
    (parity,) = (found for found in gates.verdicts if found.gate == "parity")
    assert parity.passed, parity.message
    assert mill.open().run().number == 1
    assert mill.live().content.pipeline.serving.requests_per_minute == 6
