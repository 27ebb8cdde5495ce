"""The two-tower example, run for real with a short training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from embedmill import Pipeline, Release

pytestmark = pytest.mark.timeout(900)
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "tensorflow-two-tower"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's folder; every step ended as it should, the gate's refusal included."""
    folder = tmp_path_factory.mktemp("two-tower")
    done = script("run_example.py", "--folder", str(folder), "--epochs", "8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not published: relevance:" in done.stderr
    return folder


def test_the_towers_beat_a_text_model_and_chance_on_items_that_training_never_saw(example: Path) -> None:
    done = script("evaluate.py", str(example), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    towers, text = found["two towers"], found["text only"]
    assert towers["by category"] > text["by category"] + 0.05
    assert towers["misspelt"] > text["misspelt"]
    assert towers["by name"] > 0.98
    assert towers["by picture"] > 2 * found["random"]["by picture"]  # 3.1 times or more: processors differ


def test_two_use_cases_live_on_one_platform(example: Path) -> None:
    text, towers = (live(example, name) for name in ("text.yaml", "towers.yaml"))
    assert (text.content.dimension, towers.content.dimension) == (384, 128)
    assert (text.number, towers.number) == (1, 2)
    assert text.content.counts.total == towers.content.counts.total > 3000


def test_a_misspelt_query_finds_what_was_meant(example: Path) -> None:
    found = [str(hit.fields["name"]) for hit in live(example, "towers.yaml").search("red appel", k=5)]
    assert "red apple" in found


def live(folder: Path, name: str) -> Release:
    release = Pipeline.from_file(folder / name).live()
    assert release is not None
    return release


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
