"""A pipeline in a storm: refusals, resets, lost answers and a blackout before a real S3 server."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cli.terminal import run_alone
from tests.support.mill import Mill, items
from tests.support.s3 import S3, as_identity
from tests.support.storm import CALM, Storm, Weather, storm, stormy

from embedmill import Release
from embedmill.release.admin import verify
from embedmill.release.log import read_history

ITEMS = 240
SHARD_ROWS = 40
BLACKOUT_S = 3.0


@dataclass(frozen=True)
class Outcome:
    """What a run published, what it said, and what it asked of the store."""

    release: Release
    said: str
    storm: Storm
    requests: int
    of_work: int


@contextmanager
def published(folder: Path, model: Path, seaweed: S3, weather: Weather) -> Iterator[Outcome]:
    """A new pipeline that two worker processes carried out, in this weather, with a cache of its own."""
    folder.mkdir()
    mill = Mill(folder, model)
    mill.settings = {"store": seaweed.new_url(), "goldens": 16, "index": {"kind": "flat"}}
    mill.settings["work"] = {"workers": 2, "shard_rows": SHARD_ROWS}
    mill.write(items(ITEMS))
    mill.open()
    with storm(seaweed.endpoint, weather) as proxy, pytest.MonkeyPatch.context() as patch:
        as_identity(patch, seaweed.admin, proxy.endpoint)
        patch.setenv("EMBEDMILL_CACHE", str(folder / "cache"))
        said = run_alone("run", folder / "pipeline.yaml", "--json")
        requests, of_work = proxy.requests, proxy.of_work
        assert said.code == 0, said
        assert json.loads(said.out)["computed"] == ITEMS
        as_identity(patch, seaweed.admin, seaweed.endpoint)  # looked at in calm weather
        assert [entry.kind for entry in read_history(mill.home).entries] == ["publish"]
        verify(mill.home, "1")
        yield Outcome(mill.live(), said.err, proxy, requests, of_work)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, seaweed: S3) -> Iterator[Outcome]:
    with published(tmp_path_factory.mktemp("calm") / "mill", tiny_model, seaweed, CALM) as outcome:
        yield outcome


@pytest.mark.soak(quick=1, large=30)
def test_a_storm_changes_nothing_that_is_published_and_no_more_than_doubles_the_requests(
    tmp_path: Path, tiny_model: Path, seaweed: S3, calm: Outcome, seed: int
) -> None:
    begins = random.Random(seed).randrange(calm.of_work)
    weather = stormy(seed, blackout_after=begins, blackout_s=BLACKOUT_S)
    with published(tmp_path / "mill", tiny_model, seaweed, weather) as outcome:
        assert outcome.release.content.content_digest == calm.release.content.content_digest
        assert outcome.of_work <= 2 * calm.of_work
        assert outcome.storm.fates["busy"] > calm.of_work / 30
        assert outcome.storm.fates["dark"] > 0


@pytest.mark.soak
def test_a_blackout_of_half_a_minute_is_told_and_outlasted_by_run_and_workers(
    tmp_path: Path, tiny_model: Path, seaweed: S3, calm: Outcome
) -> None:
    weather = Weather(blackout_after=calm.of_work // 2, blackout_s=30.0)
    with published(tmp_path / "mill", tiny_model, seaweed, weather) as outcome:
        assert outcome.release.content.content_digest == calm.release.content.content_digest
        assert outcome.of_work <= 2 * calm.of_work
        assert "gives no answer: " in outcome.said
        assert "answers again, after 3" in outcome.said
