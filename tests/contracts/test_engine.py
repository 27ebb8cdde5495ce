"""Every engine, held to one suite."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.contracts.controller_suite import ControllerSuite
from tests.contracts.engine_suite import EngineSuite, planned, waiting
from tests.support.dying import STAGES

from embedmill.engines import Engine, LocalEngine, MixedEngine, SshEngine
from embedmill.types import Host, Placement

__all__ = ["planned", "waiting"]
EMBEDMILL = (sys.executable, "-m", "embedmill")


def ssh_engine() -> SshEngine:
    return SshEngine(every_s=0.2, answer_s=120.0, silent_s=120.0, grace_s=5.0)


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
        engine = ssh_engine()
        yield engine
        engine.stop()

    @pytest.fixture
    def place(self, tmp_path: Path) -> Callable[[str], Placement]:
        host = Host("here", (), str(tmp_path / "holders"))
        return lambda worker: Placement(worker, host=host, command=EMBEDMILL)


class TestMixedEngine(EngineSuite):
    """Loops in turn on this machine and under holders."""

    @pytest.fixture
    def engine(self) -> Iterator[Engine]:
        engine = MixedEngine({"local": LocalEngine(), "ssh": ssh_engine()})
        yield engine
        engine.stop()

    @pytest.fixture
    def place(self, tmp_path: Path) -> Callable[[str], Placement]:
        host, turns = Host("here", (), str(tmp_path / "holders")), itertools.cycle(("ssh", "local"))
        names: dict[str, str] = {}

        def place(worker: str) -> Placement:
            engine = names.setdefault(worker, next(turns))
            return Placement(worker, host=host, command=EMBEDMILL, engine=engine)

        return place


class TestControllerOfLocalLoops(ControllerSuite):
    stages = STAGES

    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"engine": "local"}
