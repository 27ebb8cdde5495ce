"""What a store does beside something else ends with it, whatever becomes of that."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from embedmill.store.cache import beside
from embedmill.store.local import LocalStore


def test_work_beside_an_interrupted_block_hears_of_it(tmp_path: Path) -> None:
    heard = []

    def work(given_up: Event) -> None:
        heard.append(given_up.wait(20))

    with pytest.raises(KeyboardInterrupt), beside(LocalStore(tmp_path), work):
        raise KeyboardInterrupt
    assert heard == [True]


def test_an_error_of_the_work_is_told_to_who_waits_for_it(tmp_path: Path) -> None:
    def work(given_up: Event) -> None:
        raise OSError(f"full: {given_up.is_set()}")

    with pytest.raises(OSError, match="full: False"), beside(LocalStore(tmp_path), work) as result:
        result()
