"""A pipeline in a storm: refusals, resets, lost answers and a blackout before a real S3 server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from tests.support.mill import OPEN_GATES, Mill, items
from tests.support.s3 import S3, as_identity
from tests.support.storm import CALM, Storm, Weather, storm, stormy

from embedmill import Pipeline

ITEMS = 240
SHARD_ROWS = 40
BLACKOUT_S = 3.0


@dataclass(frozen=True)
class Outcome:
    """What a run published, and what it took."""

    content_digest: str
    storm: Storm
    seconds: float


def go(mill: Mill, seaweed: S3, weather: Weather, patch: pytest.MonkeyPatch) -> Outcome:
    """Run a new pipeline with two workers through a proxy, with a cache of its own."""
    with storm(seaweed.endpoint, weather) as proxy:
        as_identity(patch, seaweed.admin, proxy.endpoint)
        patch.setenv("EMBEDMILL_CACHE", str(mill.root / f"cache-{weather.seed}-{weather.busy}"))
        mill.settings = {"store": seaweed.new_url(), "goldens": 16, "index": {"kind": "flat"}}
        mill.settings["work"] = {"workers": 2, "shard_rows": SHARD_ROWS}
        mill.write(items(ITEMS))
        mill.open()
        started = time.monotonic()
        command = [sys.executable, "-m", "embedmill", "run", str(mill.root / "pipeline.yaml"), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
        assert done.returncode == 0, done.stderr
        took = time.monotonic() - started
        assert json.loads(done.stdout)["total"] == ITEMS
        requests = dict(proxy.summary())
        print(json.dumps(requests, indent=1), took)
        return Outcome(mill.live().content.content_digest, proxy, took)


def test_calm(mill: Mill, seaweed: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    go(mill, seaweed, CALM, monkeypatch)
