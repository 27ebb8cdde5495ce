"""`fetch` as an init container runs it: killed and run again, on disks that are full, from real S3."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from tests.cli.terminal import Terminal
from tests.models import tiny_text_package
from tests.support.killing import start
from tests.support.mill import Mill, items
from tests.support.relay import Relay
from tests.support.s3 import S3, as_identity

from embedmill import Release
from embedmill.release.fetch import WORK
from embedmill.release.layout import MANIFEST
from embedmill.release.pieces import PIECE_BYTES

FAST = 40e6


@pytest.fixture
def large(mill: Mill, seaweed_store_url: str) -> Mill:
    """A release of some 60 MB in a bucket."""
    mill.settings["store"] = seaweed_store_url
    mill.settings["model"] = str(tiny_text_package(mill.root / "wide", dimension=8192))
    mill.run(items(1500))
    return mill


def kept_bytes(folder: Path) -> int:
    """Bytes that lie in a folder whose fetch was killed: whole files, and pieces of others."""
    own = folder / WORK
    whole = [path for path in folder.rglob("*") if path.is_file() and own not in path.parents]
    pieces = [len(journal.read_text().splitlines()) for journal in own.glob("*.pieces")]
    return sum(path.stat().st_size for path in whole) + sum(pieces) * PIECE_BYTES


def wait_until(relay: Relay, moved: float, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while relay.moved_bytes < moved:
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_fetch_that_is_killed_goes_on_and_brings_nothing_twice(
    large: Mill, seaweed: S3, monkeypatch: pytest.MonkeyPatch, embedmill: Terminal
) -> None:
    to, spec = large.root / "fetched", str(large.root / "pipeline.yaml")
    with Relay(seaweed.endpoint, bytes_per_s=FAST) as relay:
        as_identity(monkeypatch, seaweed.admin, relay.endpoint)
        relay.hold_at(50e6)
        killed = start(["fetch", spec, "--to", str(to), "--json"])
        wait_until(relay, 50e6, killed)
        killed.kill()
        killed.communicate(timeout=60)
        assert not (to / MANIFEST).exists()
        kept = kept_bytes(to)
        assert kept > 8 * PIECE_BYTES / 2, "too little came to show anything"
        relay.reset()
        report = embedmill.json("fetch", spec, "--to", to)
        lacking = report["size_bytes"] - kept
        assert report["fetched_bytes"] <= lacking
        assert lacking * 0.95 < relay.moved_bytes < lacking * 1.05 + 200_000
        relay.reset()
        again = embedmill.json("fetch", spec, "--to", to)
        assert again["fetched_bytes"] == 0
        assert relay.moved_bytes < 200_000
    assert Release.open(to).number == 1


@pytest.mark.parametrize("digest", ["abc", "", "A" * 64, "0" * 65])
def test_what_is_no_digest_is_told_as_such(mill: Mill, embedmill: Terminal, digest: str) -> None:
    mill.run(items(20))
    to = mill.root / "fetched"
    said = embedmill("fetch", mill.root / "pipeline.yaml", "--to", to, "--manifest", digest)
    assert said.code == 2
    assert f"--manifest {digest!r}: is no SHA-256" in said.err
    assert "exchanged" not in said.err
    assert not to.exists()


def test_an_object_that_was_exchanged_is_refused_and_the_folder_is_no_release(
    mill: Mill, seaweed_store_url: str, embedmill: Terminal
) -> None:
    mill.settings["store"] = seaweed_store_url
    mill.run(items(30))
    home, release = mill.home, mill.live()
    entry = release.content.segments[0].parts[0]
    key = home.release_key(release.name, entry.path)
    home.store.put(key, os.urandom(entry.size_bytes))
    to = mill.root / "fetched"
    said = embedmill("fetch", f"{home.url}/releases/{release.name}", "--to", to)
    assert said.code == 1
    assert f"{key}: its bytes are not those that were published" in said.err
    assert embedmill.json("serve", to, code=1)["error"]["code"] == "ReleaseMissing"


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(
    mill: Mill, embedmill: Terminal, small_disk: Path
) -> None:
    mill.settings["model"] = str(tiny_text_package(mill.root / "wide", dimension=1024))
    mill.run(items(400))
    said = embedmill("fetch", mill.root / "pipeline.yaml", "--to", small_disk / "release")
    assert said.code == 75
    assert "bytes more, and" in said.err
    assert "are free" in said.err
    assert "it goes on where it ended" in said.err
    assert list((small_disk / "release").iterdir()) == [small_disk / "release" / WORK]
    assert not list((small_disk / "release" / WORK).glob("*.part"))


def test_two_fetches_into_one_folder_do_not_mix(mill: Mill, embedmill: Terminal) -> None:
    import fcntl

    mill.run(items(20))
    to = mill.root / "fetched"
    (to / WORK).mkdir(parents=True)
    handle = os.open(to / WORK, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    said = embedmill("fetch", mill.root / "pipeline.yaml", "--to", to)
    os.close(handle)
    assert (said.code, "another process is fetching" in said.err) == (1, True)
    assert embedmill("fetch", mill.root / "pipeline.yaml", "--to", to).code == 0


def test_people_read_what_came_and_how_to_serve_it(mill: Mill, embedmill: Terminal) -> None:
    mill.run(items(20))
    to = mill.root / "fetched"
    said = embedmill("fetch", mill.root / "pipeline.yaml", "--to", to)
    assert said.out.startswith(f"{to}: release {mill.live().name} (number 1), ")
    assert "fetch: 0 bytes of" in said.err
    assert "/s" in said.err
    assert f"serve it: embedmill serve {to}" in said.err
    assert "all of it was there" in embedmill("fetch", mill.root / "pipeline.yaml", "--to", to).out


def test_the_document_has_every_figure(mill: Mill, embedmill: Terminal) -> None:
    mill.run(items(20))
    to = mill.root / "fetched"
    report = embedmill.json("fetch", mill.home.url, "--release", "1", "--to", to)
    manifest = json.loads((to / MANIFEST).read_text())
    size = sum(entry["size_bytes"] for entry in manifest["files"])
    assert report.pop("seconds") >= 0
    assert report == {
        "schema": "fetch/1",
        "release": mill.live().name,
        "number": 1,
        "url": f"{mill.home.url}/releases/{mill.live().name}",
        "folder": str(to),
        "manifest_digest": manifest["digest"],
        "files": len(manifest["files"]),
        "fetched": len(manifest["files"]),
        "size_bytes": size,
        "fetched_bytes": size,
    }


def test_a_release_that_is_not_the_pinned_one_is_refused(mill: Mill, embedmill: Terminal) -> None:
    mill.run(items(20))
    to, spec = mill.root / "fetched", mill.root / "pipeline.yaml"
    said = embedmill("fetch", spec, "--manifest", "ab" * 32, "--to", to)
    assert (said.code, "and abab" in said.err, to.exists()) == (1, True, False)
    digest = json.loads((mill.live().folder / MANIFEST).read_text())["digest"]
    assert embedmill("fetch", spec, "--manifest", digest, "--to", to).code == 0


def test_a_release_that_a_url_names_already_is_not_named_twice(mill: Mill, embedmill: Terminal) -> None:
    mill.run(items(20))
    url = f"{mill.home.url}/releases/{mill.live().name}"
    said = embedmill("fetch", url, "--release", "1", "--to", mill.root / "fetched")
    assert said.code == 2
    assert "--release 1 has no meaning there" in said.err
