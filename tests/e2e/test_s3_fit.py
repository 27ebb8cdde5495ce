"""Before anything is written to a bucket the store is asked whether it is fit, and then not again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.terminal import run_alone
from tests.store.broken_stores import IgnoresTheCondition
from tests.support.mill import Mill, items
from tests.support.s3 import S3, as_identity
from tests.support.storm import storm

from embedmill.errors import StoreUnfit
from embedmill.pipeline import Pipeline
from embedmill.release.admin import rollback, verify
from embedmill.release.collect import collect
from embedmill.release.layout import Home
from embedmill.release.transfer import copy_release
from embedmill.store import open_store
from embedmill.work import WorkerOptions, work


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))


def test_an_s3_server_that_ignores_the_condition_is_refused_and_stays_empty(
    mill: Mill, moto: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    with storm(moto.endpoint, without_headers={"if-none-match"}) as careless:
        as_identity(monkeypatch, moto.admin, careless.endpoint)
        mill.settings = {"store": moto.new_url()}
        mill.write(items(8))
        mill.open()
        for command in ("plan", "run"):
            said = run_alone(command, mill.root / "pipeline.yaml", "--json")
            assert (said.code, said.json["error"]["code"]) == (1, "StoreUnfit")
            assert "create-once" in said.json["error"]["message"]
        assert list(open_store(mill.settings["store"]).list("")) == []


def test_a_fit_server_is_asked_once_from_a_machine(
    mill: Mill, seaweed: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    with storm(seaweed.endpoint) as calm:
        as_identity(monkeypatch, seaweed.admin, calm.endpoint)
        mill.settings = {"store": seaweed.new_url()}

        def asked() -> int:
            calm.asked.clear()
            mill.run(items(8))
            return sum(count for what, count in calm.asked.items() if ".embedmill-probe" in what)

        assert 0 < asked() < 80
        assert asked() == 0


class Careless(IgnoresTheCondition):
    """A remote store that lets every create win."""

    remote = True


ASKED_TO: dict[str, Callable[[Pipeline, Home, str], object]] = {
    "plan": lambda pipeline, home, run: pipeline.plan(),
    "go on": lambda pipeline, home, run: pipeline.open_run(),
    "cancel": lambda pipeline, home, run: pipeline.cancel(),
    "work": lambda pipeline, home, run: work(home, run, WorkerOptions("w")),
    "roll back": lambda pipeline, home, run: rollback(home, "1"),
    "collect": lambda pipeline, home, run: collect(home),
    "copy": lambda pipeline, home, run: copy_release(home, "1", home),
}


@pytest.mark.parametrize("what", ASKED_TO)
def test_whatever_writes_asks_first(mill: Mill, what: str) -> None:
    for rows in (items(8), items(9)):
        mill.run(rows)
    there = mill.home.store
    careless = Careless()
    for info in there.list(""):
        careless.inner.put(info.key, there.get(info.key))
    home = Home(careless, "test")
    pipeline = mill.open()
    vars(pipeline)["home"] = home  # as if the spec named it
    before = list(careless.list(""))
    with pytest.raises(StoreUnfit):
        ASKED_TO[what](pipeline, home, "none")
    assert list(careless.list("")) == before


def test_reading_asks_nothing(mill: Mill) -> None:
    mill.run(items(8))
    careless = Careless()
    for info in mill.home.store.list(""):
        careless.inner.put(info.key, mill.home.store.get(info.key))
    assert verify(Home(careless, "test"), "1").release == mill.live().name
