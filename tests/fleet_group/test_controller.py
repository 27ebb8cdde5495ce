"""Controllers of runs on servers die: those that go on with their runs find the loops that outlived them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.contracts.controller_suite import ControllerSuite
from tests.support.mill import Mill
from tests.support.server_here import server_here


class TestControllerOfLoopsUnderHolders(ControllerSuite):
    @pytest.fixture
    def settings(self, mill: Mill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        return server_here(mill.root, tmp_path / "here", monkeypatch)
