"""What tests of commands share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.terminal import Terminal
from tests.support.mill import Mill


@pytest.fixture
def embedmill(capsys: pytest.CaptureFixture[str]) -> Terminal:
    """Runs a command in this process."""
    return Terminal(capsys)


@pytest.fixture
def spec(mill: Mill) -> Path:
    """The pipeline.yaml of `mill`, which has to be written by it first."""
    return mill.root / "pipeline.yaml"
