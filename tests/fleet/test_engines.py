"""What a pipeline's engines need is imported where it names them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from embedmill import engines

OF_OTHER_MACHINES = ("jenkins", "kubernetes", "ray", "ssh")


def test_a_pipeline_of_this_machine_imports_nothing_of_others() -> None:
    script = "import sys, embedmill.pipeline; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"embedmill.fleet.engines", "embedmill.engines.local"} <= loaded
    assert not loaded & {f"embedmill.engines.{name}" for name in OF_OTHER_MACHINES}
    assert "embedmill.fleet.borrowing" not in loaded


def test_all_engines_are_there_once_they_are_named() -> None:
    assert [getattr(engines, name).__name__ for name in engines.__all__] == engines.__all__
    with pytest.raises(AttributeError, match="no attribute 'AnotherEngine'"):
        _ = engines.AnotherEngine
