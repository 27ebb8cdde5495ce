from __future__ import annotations

from typing import Any

import pytest
from benchmarks.planning import flat


@pytest.mark.parametrize(
    ("peaks", "ratio", "what"),
    [
        ({10**5: 100.0, 10**6: 200.0, 10**7: 220.0}, 1.1, "peak at 10,000,000 items, of that at 1,000,000"),
        ({10**5: 100.0, 10**6: 120.0}, 1.2, "peak at 1,000,000 items, of that at 100,000"),
        ({10**5: 100.0}, 1.0, "peak at 100,000 items, of that at 100,000"),
    ],
)
def test_memory_is_compared_with_that_of_a_million_items(
    peaks: dict[int, float], ratio: float, what: str
) -> None:
    rows: list[dict[str, Any]] = [{"items": items, "peak_mib": peak} for items, peak in peaks.items()]
    verdict = flat(rows)
    assert verdict.what == what
    assert verdict.value == pytest.approx(ratio)
