"""Rolling updates behind a real load balancer, under load: no answer fails, and none mixes two releases."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.deploy_group.deployment import REPLICAS, Deployment
from tests.deploy_group.haproxy import Balancer
from tests.support.answers import AnswerBook, Load
from tests.support.broken import exchange
from tests.support.published import answers_of, publish_different
from tests.support.replicas import NeverReady

from embedmill.release.layout import Home
from embedmill.release.reader import Release, open_release

RELEASES = 5
NOTES = Path(__file__).resolve().parents[2] / "build" / "rollout.jsonl"


@dataclass(frozen=True)
class Shop:
    """Releases 1 to 5, the right answers of each, and a balancer with three servers of the first."""

    home: Home
    book: AnswerBook
    balancer: Balancer
    deployment: Deployment

    def load(self, **options: float) -> Load:
        return Load(self.balancer.url, self.book, **options)  # type: ignore[arg-type]

    def name(self, number: int) -> str:
        return open_release(self.home, str(number)).name


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, AnswerBook]:
    mill = publish_different(tmp_path_factory.mktemp("shop"), RELEASES)
    book = answers_of(mill.home)
    assert book.told_apart() > 0.99, "an answer of another release would not be found"
    return mill.home, book


@pytest.fixture
def shop(releases: tuple[Home, AnswerBook], tmp_path: Path) -> Iterator[Shop]:
    home, book = releases
    with Balancer(tmp_path) as balancer:
        deployment = Deployment(home.url, tmp_path, balancer)
        deployment.start(1)
        yield Shop(home, book, balancer, deployment)
        deployment.close()


def weights_of_another(home: Home) -> bytes:
    return (open_release(home, "1").model_folder / "model.onnx").read_bytes()


def spoil_weights(folder: Path, home: Home) -> None:
    """A model that made none of the release's vectors, under a manifest that vouches for it."""
    exchange(folder, "model/model.onnx", weights_of_another(home))


def spoil_index(folder: Path, home: Home) -> None:
    """The index of another release, under a manifest that vouches for it."""
    (segment,) = Release.open(folder).content.segments
    (other,) = open_release(home, "1").content.segments
    assert segment.index is not None
    assert other.index is not None
    index = (open_release(home, "1").folder / other.index.path).read_bytes()
    exchange(folder, segment.index.path, index)


def flip_a_bit(folder: Path) -> None:
    """What a disk does to the file with vectors."""
    (file,) = folder.glob("vectors/*/*.arrow")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)


@dataclass(frozen=True)
class Amount:
    """How much one test does; a soak is five parts of the larger one."""

    rollouts: int
    answers: int
    texts: int
    threads: int
    pause_s: float


QUICK = Amount(rollouts=3, answers=2_000, texts=200, threads=3, pause_s=0.01)
PART = Amount(rollouts=4, answers=20_000, texts=1_000, threads=4, pause_s=0.0)


@pytest.mark.soak(quick=1, large=5)
def test_updates_and_rollbacks_under_load_fail_no_answer_and_mix_none(
    shop: Shop, seed: int, pytestconfig: pytest.Config
) -> None:
    amount = PART if pytestconfig.getoption("soak") else QUICK
    order = orders(seed, amount.rollouts)
    load = shop.load(threads=amount.threads, pause_s=amount.pause_s)
    with load.running():
        for done, number in enumerate(order, start=1):
            shop.deployment.roll_out(number)
            assert shop.deployment.releases == {shop.name(number)}
            load.wait_for(max(50, done * amount.answers // len(order) - load.asked), timeout_s=900)
    assert load.faults == []
    assert load.asked >= amount.answers
    assert load.answers["text"] >= amount.texts
    assert set(load.by_release) == {shop.name(number) for number in (1, *order)}
    note(shop, seed, order, load)


def orders(seed: int, count: int) -> list[int]:
    """Releases to roll out, each another one than the one before; the last is the first one again."""
    chance, found = random.Random(seed), [1]
    while len(found) < count:
        taken = {found[-1]} | ({1} if len(found) == count - 1 else set())
        found.append(chance.choice([n for n in range(1, RELEASES + 1) if n not in taken]))
    return [*found[1:], 1]


def note(shop: Shop, seed: int, order: list[int], load: Load) -> None:
    """What was done, for whoever reports it."""
    NOTES.parent.mkdir(parents=True, exist_ok=True)
    figures = {
        "seed": seed,
        "order": order,
        "answers": load.asked,
        "of": dict(load.answers),
        "faults": len(load.faults),
        "slowest_s": round(load.slowest_s, 3),
        "peak_memory_mib": shop.deployment.peak_memory_bytes >> 20,
    }
    with NOTES.open("a") as notes:
        notes.write(json.dumps(figures) + "\n")


def test_a_broken_release_never_becomes_ready_and_the_old_one_goes_on(shop: Shop) -> None:
    load = shop.load(threads=2, pause_s=0.004)
    with load.running():
        with pytest.raises(NeverReady, match="ReleaseCorrupt") as corrupt:
            shop.deployment.roll_out(2, flip_a_bit)
        with pytest.raises(NeverReady, match="ProofFailed") as weights:
            shop.deployment.roll_out(2, lambda folder: spoil_weights(folder, shop.home))
        with pytest.raises(NeverReady, match="ProofFailed") as index:
            shop.deployment.roll_out(2, lambda folder: spoil_index(folder, shop.home))
        load.wait_for(100)
        assert shop.balancer.up() == REPLICAS
    assert (corrupt.value.code, weights.value.code, index.value.code) == (1, 3, 3)
    assert load.faults == []
    assert set(load.by_release) == {shop.name(1)}, "the old release answered all the time"


def test_a_rollout_that_stops_in_the_middle_leaves_two_releases_that_do_not_mix(shop: Shop) -> None:
    """The second of three new pods fails: old and new answer side by side until somebody rolls back."""
    pods = iter([lambda _: None, flip_a_bit])
    load = shop.load(threads=2, pause_s=0.004)
    with load.running():
        with pytest.raises(NeverReady):
            shop.deployment.roll_out(2, lambda folder: next(pods)(folder))
        assert shop.deployment.releases == {shop.name(1), shop.name(2)}
        load.wait_for(200)
        shop.deployment.roll_out(1)
    assert load.faults == []
    assert shop.deployment.releases == {shop.name(1)}
