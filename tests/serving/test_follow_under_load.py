"""A server that follows the live release swaps under load: no answer fails, none mixes two releases."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.answers import Load
from tests.support.mill import Mill
from tests.support.published import answers_of, publish_different
from tests.support.replicas import Replica

from embedmill.release.admin import rollback
from embedmill.release.log import live_release, read_history

RELEASES = 3


@pytest.fixture
def mill(tmp_path: Path) -> Mill:
    """Three releases, of which the first is live."""
    found = publish_different(tmp_path, RELEASES)
    rollback(found.home, "1")
    return found


@pytest.fixture
def replica(mill: Mill) -> Iterator[Replica]:
    """A server that looks all the time for what is live."""
    found = Replica(mill.root / "pipeline.yaml", "--follow", "0.1", drain_s=0.2)
    found.wait_ready()
    yield found
    found.kill()


def wait_for_answers_of(load: Load, release: str) -> None:
    wanted, deadline = load.by_release[release] + 50, time.monotonic() + 240
    while load.by_release[release] < wanted:
        assert time.monotonic() < deadline, f"{release} does not answer: {load.faults[:3]}"
        time.sleep(0.02)


@pytest.mark.timeout(1200)
def test_three_swaps_under_load_fail_no_answer_and_mix_none(mill: Mill, replica: Replica) -> None:
    book = answers_of(mill.home, each=30)
    assert book.told_apart() > 0.99, "an answer of another release would not be found"
    load = Load(replica.url, book, threads=3, pause_s=0.004)
    with load.running():
        wait_for_answers_of(load, live_release(mill.home).release)
        for number in ("2", "3", "1"):
            rollback(mill.home, number)
            wait_for_answers_of(load, read_history(mill.home).find(number).release)
    assert load.faults == []
    assert len(load.by_release) == RELEASES
    replica.told_to_end()
    assert replica.wait_ended() == 0
