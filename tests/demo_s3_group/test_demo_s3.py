"""The demo on a real S3 server, in calm weather and in a storm."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.s3 import S3, as_identity
from tests.support.storm import CALM, Storm, Weather, storm, stormy

from embedmill import Pipeline, Release
from embedmill.release.admin import verify
from embedmill.release.log import read_history

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo" / "run_demo.py"
BLACKOUT_S = 60.0

pytestmark = pytest.mark.timeout(2000)


@dataclass(frozen=True)
class Outcome:
    """The release of the second day, what the demo said, and what it asked of the store."""

    live: Release
    said: str
    storm: Storm
    requests: int
    of_work: int


@contextmanager
def demonstrated(folder: Path, seaweed: S3, weather: Weather) -> Iterator[Outcome]:
    """The whole demo in this weather, with a cache of its own; both releases are verified afterwards."""
    with storm(seaweed.endpoint, weather) as proxy, pytest.MonkeyPatch.context() as patch:
        as_identity(patch, seaweed.admin, proxy.endpoint)
        patch.setenv("EMBEDMILL_CACHE", str(folder / "cache"))
        command = [sys.executable, str(DEMO), "--folder", str(folder), "--store", seaweed.new_url()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        requests, of_work = proxy.requests, proxy.of_work
        assert done.returncode == 0, done.stdout + done.stderr
        as_identity(patch, seaweed.admin, seaweed.endpoint)  # looked at in calm weather
        pipeline = Pipeline.from_file(folder / "pipeline.yaml")
        assert [entry.kind for entry in read_history(pipeline.home).entries] == ["publish", "publish"]
        for number in ("1", "2"):
            verify(pipeline.home, number)
        live = pipeline.live()
        assert live is not None
        yield Outcome(live, done.stderr, proxy, requests, of_work)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, seaweed: S3) -> Iterator[Outcome]:
    with demonstrated(tmp_path_factory.mktemp("calm"), seaweed, CALM) as outcome:
        yield outcome


def test_the_demo_publishes_two_days_and_the_second_computes_what_changed(calm: Outcome) -> None:
    content = calm.live.content
    assert content.computed == content.embedded == content.counts.new + content.counts.changed
    assert content.reused == content.counts.unchanged > 3_000


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_a_storm_with_a_minute_of_blackout_changes_nothing_and_no_more_than_doubles_the_requests(
    calm: Outcome, tmp_path: Path, seaweed: S3, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    begins = random.Random(seed).randrange(calm.of_work)
    with demonstrated(
        tmp_path, seaweed, stormy(seed, blackout_after=begins, blackout_s=BLACKOUT_S)
    ) as outcome:
        assert outcome.live.content.content_digest == calm.live.content.content_digest
        with capsys.disabled():  # figures of docs/stores.md
            print(f" requests: {calm.requests} calm, {outcome.requests} in storm {seed}")  # noqa: T201
        assert outcome.of_work <= 2 * calm.of_work
        assert outcome.storm.fates["busy"] > calm.of_work / 30
        assert outcome.storm.fates["dark"] > 0
        assert "gives no answer: " in outcome.said
        assert "answers again, after" in outcome.said
