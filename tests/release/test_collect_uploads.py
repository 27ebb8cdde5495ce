"""Garbage collection in a bucket: uploads that a dead process left go too; a refusal of that is said."""

from __future__ import annotations

import pytest
from tests.support.mill import Mill, items
from tests.support.s3 import READER, S3, as_identity

from embedmill.release.collect import Policy, collect
from embedmill.release.layout import Home
from embedmill.store import open_store
from embedmill.store.cloud_config import Place
from embedmill.store.s3_requests import S3Requests

AT_ONCE = Policy(unfinished_after_s=0.0)


@pytest.fixture
def home(mill: Mill, seaweed_store_url: str) -> Home:
    """A pipeline with a release, and one upload that was begun and never finished."""
    mill.settings["store"] = seaweed_store_url
    mill.run(items(8))
    place = Place.parse(seaweed_store_url)
    path = f"{place.prefix}/{mill.home.pipeline}/releases/dead/index.faiss"
    assert S3Requests(place, 10.0).ask("POST", path, {"uploads": ""}, "an upload").status == 200
    return mill.home


def test_old_uploads_are_shown_then_aborted_and_young_ones_stay(home: Home) -> None:
    assert collect(home).unfinished_objects == 0
    assert collect(home, AT_ONCE, dry_run=True).unfinished_objects == 1
    done = collect(home, AT_ONCE)
    assert (done.unfinished_objects, done.unfinished_left) == (1, "")
    assert collect(home, AT_ONCE).unfinished_objects == 0


def test_who_may_not_abort_uploads_collects_without_and_is_told(
    home: Home, seaweed: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert collect(home).objects > 0  # so that there is nothing else to delete
    as_identity(monkeypatch, READER, seaweed.endpoint)
    done = collect(Home(open_store(home.store.url), home.pipeline), AT_ONCE)
    assert (done.unfinished_objects, done.unfinished_bytes) == (0, 0)
    assert "the identity needs s3:AbortMultipartUpload on the objects" in done.unfinished_left
    assert [each.number for each in done.kept] == [1]
    as_identity(monkeypatch, seaweed.admin, seaweed.endpoint)
    assert collect(home, AT_ONCE, dry_run=True).unfinished_objects == 1
