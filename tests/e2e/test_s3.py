"""A pipeline on object storage, with real worker processes: SeaweedFS, and nothing shared but a URL."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from tests.decoding.pictures import encoded, noise
from tests.models import tiny_image_package, tiny_text_package
from tests.support.mill import Mill, items
from tests.support.relay import Relay
from tests.support.s3 import S3, as_identity

from embedmill import Release
from embedmill.errors import ReleaseCorrupt
from embedmill.store import cache_folder, open_store

WIDE = 256
ROWS = 4_000
SEGMENT_BYTES = ROWS * WIDE * 4


@pytest.fixture
def relay(seaweed: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """Counts the bytes between clients and SeaweedFS, whose endpoint it is for this test."""
    with Relay(seaweed.endpoint) as relay:
        as_identity(monkeypatch, seaweed.admin, relay.endpoint)
        yield relay


@pytest.fixture
def cloudy(mill: Mill, relay: Relay, seaweed: S3, monkeypatch: pytest.MonkeyPatch) -> Mill:
    """A pipeline on a new store, with a cache of its own."""
    monkeypatch.setenv("EMBEDMILL_CACHE", str(mill.root / "cache"))
    mill.settings = {"store": seaweed.new_url(), "work": {"workers": 2, "shard_rows": 20}, "goldens": 16}
    return mill


def embedmill(*arguments: str) -> str:
    """What a command prints; it must end well."""
    command = [sys.executable, "-m", "embedmill", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_worker_processes_publish_a_release_that_is_searched_and_renewed(cloudy: Mill) -> None:
    cloudy.write(items(100))
    cloudy.open()
    spec = str(cloudy.root / "pipeline.yaml")
    assert json.loads(embedmill("plan", spec, "--json"))["compute"] == 100
    first = json.loads(embedmill("run", spec, "--json"))
    assert (first["number"], first["computed"], first["url"].split("://")[0]) == (1, 100, "s3")
    assert workers_of(cloudy, first["release"]) <= {"local-0", "local-1"}
    (hit,) = json.loads(embedmill("search", spec, "--text", "item 7. all", "-k", "1", "--json"))["hits"]
    assert hit["id"] == "s7"
    cloudy.write(items(100, start=10))
    second = json.loads(embedmill("run", spec, "--json"))
    assert (second["number"], second["computed"], second["reused"]) == (2, 10, 90)
    embedmill("release", "verify", spec, "2")
    assert len(Release.open(second["url"]).to_numpy()[0]) == 100


def workers_of(mill: Mill, run: str) -> set[str]:
    """Names of the workers whose vectors count."""
    home = mill.home
    keys = [info.key for info in home.store.list(home.run_key(run, "commits"))]
    return {json.loads(home.store.get(key))["worker"] for key in keys}


def test_images_of_a_bucket_keep_thumbnails_and_equal_contents_their_vectors(
    cloudy: Mill, tmp_path: Path
) -> None:
    cloudy.model = tiny_image_package(tmp_path / "images-model")
    cloudy.schema = pa.schema([("sku", pa.string()), ("image", pa.string())])
    cloudy.settings["catalog"] = {"source": "items.parquet", "id": "sku", "thumbnails": 16}
    (cloudy.root / "one").mkdir()
    for number in range(30):
        (cloudy.root / "one" / f"{number}.png").write_bytes(encoded(noise(20, 20, number)))
    cloudy.run({"sku": f"s{number}", "image": f"one/{number}.png"} for number in range(30))
    shown = cloudy.live().thumbnail("s7")
    assert shown is not None
    (cloudy.root / "one").rename(cloudy.root / "two")
    shutil.rmtree(cloudy.root / "cache")
    moved = cloudy.run({"sku": f"s{number}", "image": f"two/{number}.png"} for number in range(30))
    assert (moved.computed, moved.embedded) == (0, 30)
    assert cloudy.live().thumbnail("s7") == shown


def test_a_store_in_a_bucket_and_in_a_folder_publish_the_same_content(cloudy: Mill) -> None:
    cloudy.run(items(50))
    bucket = cloudy.live().content.content_digest
    cloudy.settings = {}
    cloudy.run(items(50))
    assert cloudy.live().content.content_digest == bucket


def test_a_refresh_moves_no_unchanged_segment_through_the_client(
    cloudy: Mill, relay: Relay, tmp_path: Path
) -> None:
    cloudy.model = tiny_text_package(tmp_path / "wide", dimension=WIDE)
    cloudy.settings["work"] = {"shard_rows": 500}
    cloudy.run(items(ROWS))
    assert relay.moved_bytes > 2 * SEGMENT_BYTES  # there, and back into the cache
    relay.reset()
    result = cloudy.run(items(ROWS, start=10))
    assert (result.computed, result.reused) == (10, ROWS - 10)
    assert relay.moved_bytes < SEGMENT_BYTES / 2
    old, new = cloudy.live().content.segments
    assert (old.rows, new.rows) == (ROWS, 10)


def test_another_machine_gets_each_segment_once(cloudy: Mill, relay: Relay, tmp_path: Path) -> None:
    cloudy.model = tiny_text_package(tmp_path / "wide", dimension=WIDE)
    cloudy.settings["work"] = {"shard_rows": 500}
    cloudy.run(items(ROWS))
    shutil.rmtree(cache_folder())
    relay.reset()
    result = cloudy.run(items(ROWS, start=10))
    assert result.reused == ROWS - 10
    assert SEGMENT_BYTES < relay.moved_bytes < 1.5 * SEGMENT_BYTES


def test_a_damaged_cache_is_renewed_and_a_damaged_store_is_an_error(cloudy: Mill) -> None:
    cloudy.run(items(50))
    release = cloudy.live()
    part = release.content.segments[0].parts[0].path
    flip(release.folder / part)
    assert cloudy.live().search("item 7. all", k=1)[0].id == "s7"
    key = cloudy.home.release_key(release.name, part)
    store = open_store(cloudy.settings["store"])
    damaged = bytearray(store.get(key))
    damaged[-1] ^= 1
    store.put(key, bytes(damaged))
    assert cloudy.live().search("item 7. all", k=1)[0].id == "s7"  # from what was checked before
    shutil.rmtree(cache_folder())
    with pytest.raises(ReleaseCorrupt, match=part):
        cloudy.live()


def flip(file: Path) -> None:
    """Change a byte of a file, as a bad disk would."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
