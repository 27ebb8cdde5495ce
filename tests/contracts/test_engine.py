"""Every engine, held to one suite."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.contracts.engine_suite import EngineSuite, planned, waiting

from embedmill.engines import Engine, LocalEngine, SshEngine
from embedmill.types import Host, Placement

__all__ = ["planned", "waiting"]
EMBEDMILL = (sys.executable, "-m", "embedmill")


class TestLocalEngine(EngineSuite):
    @pytest.fixture
    def engine(self) -> Iterator[Engine]:
        engine = LocalEngine()
        yield engine
        engine.stop()

    @pytest.fixture
    def place(self) -> Callable[[str], Placement]:
        return Placement


class TestSshEngine(EngineSuite):
    """With an empty reach: holders are asked on this machine, without ssh."""

    @pytest.fixture
    def engine(self) -> Iterator[Engine]:
        engine = SshEngine(every_s=0.2, grace_s=5.0)
        yield engine
        engine.stop()

    @pytest.fixture
    def place(self, tmp_path: Path) -> Callable[[str], Placement]:
        host = Host("here", (), str(tmp_path / "holders"))
        return lambda worker: Placement(worker, host=host, command=EMBEDMILL)
