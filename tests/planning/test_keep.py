"""What a plan leaves in the store."""

from __future__ import annotations

import hashlib
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from tests.models import tiny_text_package
from tests.support.mill import Mill, items

from embedmill import Pipeline
from embedmill.errors import CatalogError, StoreFull, StoreUnavailable
from embedmill.model import ModelPackage
from embedmill.planning.keep import Kept, create_plan, taken_back_on_failure
from embedmill.release.layout import Home
from embedmill.store import Body
from embedmill.store.faults import AnswerLost, At, Full, Late, Refused, Script, Verb
from embedmill.store.faulty import FaultyStore
from embedmill.store.local import LocalStore
from embedmill.store.memory import MemoryStore
from embedmill.store.retrying import RetryingStore


def test_a_local_store_links_the_item_files_that_were_planned(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    home = Home(store, "shop")
    files = [tmp_path / "part-00000.parquet", tmp_path / "part-00001.parquet"]
    for number, file in enumerate(files):
        file.write_bytes(b"items" * (number + 1))
    entries = Kept(home, "r1").item_parts([(file, rows) for rows, file in enumerate(files)])
    for rows, (entry, file) in enumerate(zip(entries, files, strict=True)):
        assert store.path(home.key(entry.path)).samefile(file)
        assert (entry.rows, entry.sha256) == (rows, hashlib.sha256(file.read_bytes()).hexdigest())


class InterruptedAfterOne(LocalStore):
    """While its first file of a model is written, nobody waits for the rest any more."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.given_up = Event()

    def put_if_absent(self, key: str, body: Body) -> str:
        self.given_up.set()
        return super().put_if_absent(key, body)


def test_the_rest_of_a_model_is_not_copied_once_nobody_waits_for_it(tmp_path: Path) -> None:
    package = ModelPackage.open(tiny_text_package(tmp_path / "model"))
    assert len(package.files()) > 1
    store = InterruptedAfterOne(tmp_path / "store")
    with pytest.raises(CancelledError):
        Kept(Home(store, "shop"), "r1").shards_and_model([], package, None, store.given_up)
    assert len([info for info in store.list("") if "/model/" in info.key]) == 1


def test_nothing_of_the_live_releases_model_is_copied_once_nobody_waits_for_it(mill: Mill) -> None:
    mill.run(items(4))
    given_up, kept = Event(), Kept(mill.home, "r1")
    given_up.set()
    with pytest.raises(CancelledError):
        kept.model(mill.open().package, mill.live(), given_up)
    assert list(mill.home.store.list(mill.home.release_key("r1"))) == []


def test_a_plan_that_does_not_fit_on_the_disk_leaves_nothing_there(mill: Mill, small_disk: Path) -> None:
    mill.settings["store"] = str(small_disk / "mill")
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"0" * 1_900_000)
    with pytest.raises(StoreFull, match=f"{small_disk}/mill/"):
        mill.planned(items(20_000))
    assert list(mill.home.store.list("")) == []
    ballast.unlink()
    assert mill.planned().plan.compute == 20_000


def with_faults(mill: Mill, *faults: At) -> Pipeline:
    pipeline = mill.open()
    store = FaultyStore(pipeline.home.store, Script(*faults))
    vars(pipeline)["home"] = replace(pipeline.home, store=store)
    return pipeline


def keys(home: Home) -> set[str]:
    return {info.key for info in home.store.list("")}


@pytest.mark.parametrize(
    ("verb", "key"),
    [("copy_if_absent", "*/frozen/*"), ("put_if_absent", "*/plan.json")],
    ids=["vectors that are taken over", "plan.json"],
)
def test_a_plan_leaves_nothing_wherever_the_disk_is_full(mill: Mill, verb: Verb, key: str) -> None:
    mill.worked(items(20))
    before = keys(mill.home)
    mill.write(items(25))
    with pytest.raises(StoreFull):
        with_faults(mill, At(Full(), verb, key)).plan()
    assert keys(mill.home) == before
    assert mill.open().plan().plan.compute == 5


@pytest.mark.parametrize("fault", [Refused(), AnswerLost()])
def test_what_a_plan_needs_stays_where_it_may_be_there(mill: Mill, fault: Refused | AnswerLost) -> None:
    mill.write(items(20))
    with pytest.raises(StoreUnavailable):
        with_faults(mill, At(fault, "put_if_absent", "*/plan.json")).plan()
    left = keys(mill.home)
    assert any("/frozen/" in key for key in left)
    assert any("/model/" in key for key in left)
    assert any(key.endswith("/plan.json") for key in left) == isinstance(fault, AnswerLost)
    assert mill.run().embedded == 20


def test_a_plan_that_is_there_keeps_its_files_though_the_disk_was_full_after_it(mill: Mill) -> None:
    plan = mill.planned(items(20)).plan
    before = keys(mill.home)
    home = replace(mill.home, store=FaultyStore(mill.home.store, Script(At(Full(), "put_if_absent"))))
    with pytest.raises(StoreFull):
        create_plan(home, plan)
    assert keys(mill.home) == before


def test_what_a_plan_needs_stays_where_an_unanswered_try_may_land_after_the_quota_was_met(mill: Mill) -> None:
    plan, bucket = mill.planned(items(20)).plan, Bucket()
    for info in mill.home.store.list(""):
        if not info.key.endswith("/plan.json"):
            bucket.put(info.key, mill.home.store.get(info.key))
    before = keys(Home(bucket, "test"))
    script = Script(At(Late(99), "put_if_absent", nth=1), At(Full(), "put_if_absent", nth=2))
    store = RetryingStore(FaultyStore(bucket, script), sleep=lambda _: None)
    with pytest.raises(StoreFull):
        create_plan(Home(store, "test"), plan)
    assert keys(Home(bucket, "test")) == before


class Bucket(MemoryStore):
    """Its calls are requests to a service."""

    remote = True


@pytest.mark.parametrize("failure", [CatalogError("damaged"), KeyboardInterrupt()])
def test_what_a_failed_plan_has_written_is_deleted_and_no_more(failure: BaseException) -> None:
    home = Home(MemoryStore(), "shop")
    for key in (home.run_key("r2", "plan.json"), home.release_key("r2", "model", "model.yaml")):
        home.store.put(key, b"another run's")
    home.store.put(home.run_key("r1", "frozen", "00000.arrow"), b"1")
    home.store.put(home.release_key("r1", "model", "model.yaml"), b"2")
    with pytest.raises(type(failure)), taken_back_on_failure(home, "r1"):
        raise failure
    assert [info.key.split("/")[2] for info in home.store.list("")] == ["r2", "r2"]


@pytest.mark.parametrize(
    ("store", "failure"),
    [(MemoryStore(), StoreUnavailable("no answer")), (Bucket(), KeyboardInterrupt())],
    ids=["no answer", "Ctrl-C"],
)
def test_nobody_waits_for_what_takes_long_to_delete(store: MemoryStore, failure: BaseException) -> None:
    home = Home(store, "shop")
    home.store.put(home.run_key("r1", "frozen", "00000.arrow"), b"1")
    with pytest.raises(type(failure)), taken_back_on_failure(home, "r1"):
        raise failure
    assert len(list(home.store.list(""))) == 1
