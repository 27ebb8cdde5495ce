"""What befalls a build in a thread is heard of by its test."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.jenkins_group.farm import beside


def test_what_fails_beside_a_build_is_raised_after_it_with_its_log(tmp_path: Path) -> None:
    def fail(folder: Path, ended: threading.Event) -> None:
        assert ended.wait(60)
        raise AssertionError(f"of {folder}")

    with pytest.raises(AssertionError, match=f"of {tmp_path}") as raised, beside(fail, tmp_path):
        (tmp_path / "log").write_text("all that it said")
    assert raised.value.__notes__ == ["all that it said"]


def test_what_ends_a_build_itself_comes_first(tmp_path: Path) -> None:
    def fail(_: Path, __: threading.Event) -> None:
        raise AssertionError("beside it")

    with pytest.raises(TimeoutError), beside(fail, tmp_path):
        raise TimeoutError
