"""tools/environment.py makes an environment once, and again only when its files change."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"

BACKEND = """
import zipfile

def build_editable(directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(directory + "/tiny-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n")
        wheel.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("tiny-1.dist-info/RECORD", "")
    return "tiny-1-py3-none-any.whl"
"""
CREATING = f".venv/core: creating, with Python {sys.version.split()[0]}"
REQUIREMENTS = ".venv/core: installing requirements/core.txt"
PROJECT = ".venv/core: installing embedmill from this checkout"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose project builds without any package, so that nothing is fetched."""
    for folder in ("tools", "requirements"):
        (tmp_path / folder).mkdir()
    for tool in ("environment.py", "seeding.py"):
        shutil.copy(TOOLS / tool, tmp_path / "tools")
    (tmp_path / "backend.py").write_text(BACKEND)
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires=[]\nbuild-backend="backend"\nbackend-path=["."]'
    )
    (tmp_path / "requirements" / "core.txt").write_text("-r shared.txt\n")
    (tmp_path / "requirements" / "shared.txt").write_text("# nothing\n")
    return tmp_path


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.environment", *arguments]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def steps(checkout: Path) -> list[str]:
    made = make(checkout, "core")
    assert made.returncode == 0, made.stderr
    return made.stdout.splitlines()


def test_only_what_changed_or_failed_is_made_again(checkout: Path) -> None:
    assert steps(checkout) == [CREATING, REQUIREMENTS, PROJECT]
    assert steps(checkout) == []

    project = checkout / "pyproject.toml"
    working = project.read_text()
    project.write_text(working.replace('"backend"', '"missing_backend"'))
    failed = make(checkout, "core")
    assert failed.returncode == 1
    assert "missing_backend" in failed.stderr, "what pip said is shown"
    assert "failed, see above" in failed.stderr
    project.write_text(working + "\n# changed\n")
    assert steps(checkout) == [PROJECT]

    (checkout / "requirements" / "shared.txt").write_text("# an included file changed\n")
    assert steps(checkout) == [CREATING, REQUIREMENTS, PROJECT]


def test_an_unknown_group_is_refused(checkout: Path) -> None:
    refused = make(checkout, "nonesuch")
    assert refused.returncode == 1
    assert refused.stderr == "no group 'nonesuch': there is no requirements/nonesuch.txt\n"
    assert not (checkout / ".venv").exists()
