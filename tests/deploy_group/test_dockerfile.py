"""The Dockerfile of a serving image, as hadolint reads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.mill import Mill, items

from embedmill.deploy.image import deploy_image
from embedmill.release.source import source_in

BASE = f"registry.internal/python@sha256:{'cd' * 32}"
HADOLINT = Path(sys.executable).with_name("hadolint")


def findings(dockerfile: Path) -> str:
    command = [str(HADOLINT), "--no-color", "--failure-threshold", "style", str(dockerfile)]
    done: subprocess.CompletedProcess[str]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.fixture
def dockerfile(mill: Mill) -> Path:
    mill.run(items(8))
    deploy_image(mill.root / "image", source_in(mill.home), BASE)
    return mill.root / "image" / "Dockerfile"


def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    assert findings(dockerfile) == ""


def test_hadolint_would_find_something(dockerfile: Path) -> None:
    dockerfile.write_text(dockerfile.read_text() + "RUN cd /opt && pip install numpy\n")
    assert "DL3013" in findings(dockerfile)
