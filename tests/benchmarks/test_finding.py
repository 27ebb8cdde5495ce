from __future__ import annotations

import numpy as np
from benchmarks.support.finding import recall


def test_recall_is_the_share_of_exact_rows_that_were_found_in_any_order() -> None:
    exact = np.array([[1, 2], [3, 4]])
    assert recall(np.array([[2, 1], [3, 4]]), exact) == 1.0
    assert recall(np.array([[2, 9], [-1, -1]]), exact) == 0.25
