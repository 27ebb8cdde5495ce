"""The generated pipeline, executed: a release is published, whatever becomes of agents meanwhile."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.jenkins_group.farm import SECRET, Build, Farm
from tests.support.mill import Mill, items
from tests.support.stock import Stock, Unless

pytestmark = pytest.mark.timeout(2000)

STAGES = [
    *("Probe", "Plan", "Embed", "Reconcile", "Index", "Gates"),
    *("Integration test", "Publish", "Deploy", "Report"),
]
HOSTILE = (
    *("';touch hacked;'", '"; touch hacked; "', "$(touch hacked)", "`touch hacked`", "${params.X}"),
    *("a\nb\nplaces x y z\n", "\\'\\\"\\n", "日本語 🧵 \U0001f9f5", "*)(&&||<>!#", "%0a%00", "--run=other"),
)


@pytest.fixture
def farm(tmp_path: Path, tiny_model: Path, groovy: dict[str, str]) -> Farm:
    found = Farm(tmp_path, tiny_model, groovy)
    for name in ("gpu-a", "gpu-b", "gpu-c"):
        found.add_agent(name)
    return found


def digest_alone(folder: Path, model: Path, rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """The content digest of the same catalog, computed in this process."""
    folder.mkdir()
    mill = Mill(folder, model, settings={"work": settings["work"]})
    mill.run(rows)
    return mill.live().content.content_digest


def check_published(build: Build, farm: Farm, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    assert (build.result, build.failure) == ("SUCCESS", ""), build.log
    live = farm.mill.live()
    assert live.content.embedded == len(rows)
    alone = digest_alone(tmp_path / "alone", farm.model, rows, farm.mill.settings)
    assert live.content.content_digest == alone


def test_a_catalog_becomes_a_release_on_three_agents(farm: Farm, tmp_path: Path) -> None:
    rows, workers = items(400), ("gpu-a-0", "gpu-b-0", "gpu-c-0")

    def share(stock: Stock, _: Path, unless: Unless) -> None:
        stock.hand_out_until_done_by(*workers, unless=unless)

    build = farm.build_while(rows, share)
    check_published(build, farm, rows, tmp_path)
    assert build.all("stage") == STAGES
    assert farm.committers() == set(workers)
    assert {event["node"] for event in build.events if event.get("branch", "").startswith("embed ")} == {
        *("gpu-a", "gpu-b", "gpu-c"),
    }
    assert sorted(build.all("lock")) == ["embedmill-gpu-a-0", "embedmill-gpu-b-0", "embedmill-gpu-c-0"]
    assert [event["failures"] for event in build.events if "junit" in event] == [0, 0]
    assert set(build.all("page")) == {"Embedmill"}
    assert build.archived("published.json")["release"] == farm.mill.live().name


def test_an_agent_that_is_killed_in_the_middle_and_one_that_never_answers_cost_nothing(
    farm: Farm, tmp_path: Path
) -> None:
    farm.add_agent("gpu-dead", answers=False)
    rows = items(1200)

    def kill(stock: Stock, folder: Path, unless: Unless) -> None:
        stock.hand_out_until_done_by("gpu-a-0", unless=unless)
        (folder / "gpu-a.killed").touch()
        stock.wait_until((folder / "gpu-a.lost").exists, "it is missed", unless=unless)

    build = farm.build_while(rows, kill)
    check_published(build, farm, rows, tmp_path)
    assert (build.folder / "gpu-a.killed").exists()
    assert "probe of gpu-dead: no answer in time" in build.log
    assert "retrying: agent gpu-a was lost" in build.log
    assert "embed gpu-a-0: no answer in time, or its agent was lost" in build.log
    passed_over = build.archived("plan.json")["passed_over"]
    assert "gave no answer" in passed_over["gpu-dead"]


def test_hostile_ids_and_texts_change_nothing(farm: Farm, tmp_path: Path) -> None:
    rows = items(60)
    for number, text in enumerate(HOSTILE):
        rows[number] |= {"sku": f"{text}{number}", "title": f"item {text}"}
    farm.write(rows)
    build = farm.build()
    check_published(build, farm, rows, tmp_path)
    assert not list(farm.root.rglob("*hacked*"))
    assert not any(text in build.log for text in HOSTILE)
    scripts = build.all("sh")
    assert set(scripts) == {each for each in scripts if "\n" not in each and "hacked" not in each}


def test_secrets_reach_workers_by_stdin_and_no_log(farm: Farm, tmp_path: Path) -> None:
    farm.settings = replace(farm.settings, secrets={"STORE_KEY": "store-key"})
    farm.write(rows := items(40))
    build = farm.build()
    check_published(build, farm, rows, tmp_path)
    assert SECRET not in build.log
    kept = [each for each in farm.root.rglob("*") if each.is_file() and each.name != "build.json"]
    assert not [each for each in kept if SECRET.encode() in each.read_bytes()]


def test_a_gate_that_fails_publishes_nothing_and_is_a_failed_test(farm: Farm) -> None:
    farm.mill.settings |= {"gates": {"quarantine": 0.0}}
    rows = items(40)
    rows[1]["sku"] = rows[0]["sku"]
    farm.write(rows)
    build = farm.build()
    assert build.result == "FAILURE"
    assert "the gates ended with exit code 3" in build.failure
    assert [event["failures"] for event in build.events if "junit" in event] == [1]
    assert "Publish" not in build.all("stage")
    accepted = farm.build(ACCEPT="quarantine")
    assert accepted.result == "SUCCESS", accepted.log
    assert farm.mill.live().content.quarantined > 0


def test_a_server_is_compared_with_the_key_that_it_wants(farm: Farm) -> None:
    with refusing() as (url, presented):
        farm.settings = replace(farm.settings, verify_url=url, verify_key="store-key")
        farm.write(items(20))
        (farm.repository / "verify.xml").write_text("<testsuite><testcase name='old'/></testsuite>")
        build = farm.build()
    assert build.result == "FAILURE", build.log
    assert "the server was not compared with the release: verify ended with exit code 2" in build.failure
    assert presented == {f"Bearer {SECRET}"}
    assert SECRET not in build.log
    found = [event for event in build.events if event.get("junit") == "verify.xml"]
    assert [event["failures"] for event in found] == [1], "an error, and no test of an old file"


@contextlib.contextmanager
def refusing() -> Iterator[tuple[str, set[str]]]:
    """A server that refuses everybody: its URL, and the keys that it was shown."""
    presented = set[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            presented.add(self.headers.get("Authorization", ""))
            self.send_error(401)

        do_POST = do_GET

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", presented
        finally:
            server.shutdown()
            thread.join()


def test_a_parameter_that_is_no_word_stops_the_build_before_anything_is_run(farm: Farm) -> None:
    farm.write(items(4))
    build = farm.build(ACCEPT="empty; touch hacked")
    assert build.result == "FAILURE"
    assert "not allowed here" in build.failure
    assert not build.all("sh")


def test_a_build_that_somebody_aborts_ends_and_stops_its_workers(farm: Farm) -> None:
    def abort(stock: Stock, folder: Path, unless: Unless) -> None:
        stock.hand_out_until_done_by("gpu-a-0", unless=unless)
        (folder / "abort").touch()
        stock.wait_until((folder / "result.json").is_file, "the build has ended", unless=unless)

    build = farm.build_while(items(1200), abort)
    assert (build.result, build.failure) == ("ABORTED", "UserInterruption"), build.log
    assert "Publish" not in build.all("stage")
    assert "was stopped" in build.log
    again = farm.build()
    assert again.result == "SUCCESS", again.log
    assert again.archived("plan.json")["resumed"]


def test_an_agent_that_freezes_in_the_middle_costs_its_branch_alone(farm: Farm, tmp_path: Path) -> None:
    rows = items(1200)

    def freeze(stock: Stock, folder: Path, unless: Unless) -> None:
        stock.hand_out_until_done_by("gpu-b-0", unless=unless)
        (folder / "gpu-b.frozen").touch()
        stock.wait_until((folder / "gpu-b.stopped").exists, "all that it did stands still", unless=unless)
        (folder / "gpu-b.waited").touch()

    build = farm.build_while(rows, freeze)
    check_published(build, farm, rows, tmp_path)
    assert "embed gpu-b-0: no answer in time, or its agent was lost" in build.log


def test_an_agent_that_comes_back_finds_its_worker_at_work(farm: Farm, tmp_path: Path) -> None:
    rows = items(1200)

    def disconnect(stock: Stock, folder: Path, unless: Unless) -> None:
        stock.hand_out_until_done_by("gpu-c-0", unless=unless)
        (folder / "gpu-c.disconnected").touch()
        stock.wait_until((folder / "gpu-c.lost").exists, "it is missed", unless=unless)
        (folder / "gpu-c.disconnected").unlink()

    build = farm.build_while(rows, disconnect)
    check_published(build, farm, rows, tmp_path)
    assert "retrying: agent gpu-c was lost" in build.log
    assert "works already" in build.log or "ended with 0" in build.log
