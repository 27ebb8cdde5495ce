"""Whole runs with `engine: ray`: whatever befalls nodes and drivers, the release is the local engine's."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.contracts.engine_suite import loops_on
from tests.support.mill import Mill, Row, items
from tests.support.patience import PATIENCE_S, until
from tests.support.ray_cluster import NodeSetup, RayCluster, RayNode
from tests.support.relay import Relay
from tests.support.s3 import S3, as_identity
from tests.support.stock import Stock

from embedmill.errors import WorkerFailed
from embedmill.release.draining import drain
from embedmill.release.runs import open_plans
from embedmill.types import Progress

ROWS = items(1200)
WORK = {"shard_rows": 6, "attempts": 3, "look_again_s": 2.0}


@pytest.fixture
def mill(tmp_path: Path, tiny_model: Path, head: RayCluster) -> Mill:
    """A pipeline whose store is a folder of all nodes, with a worker on each processor."""
    root = tmp_path / "pipeline"
    root.mkdir()
    section: dict[str, Any] = {
        "address": head.address,
        "token_file": str(head.token_file),
        "shared": [str(root)],
        "families": {
            "large": {"labels": {"pool": "large"}, "memory_mib": 512},
            "small": {"labels": {"pool": "small"}, "memory_mib": 512},
            "joined": {"labels": {"pool": "joined"}, "memory_mib": 512},
        },
    }
    settings = {"engine": "ray", "ray": section, "work": WORK, "store": str(root / "mill")}
    return Mill(root, tiny_model, settings=settings)


def digest_of_the_local_engine(mill: Mill, folder: Path, rows: Sequence[Row] = ROWS) -> str:
    folder.mkdir()
    other = Mill(folder, mill.model, settings={"work": WORK})
    other.run(rows)
    return other.live().content.content_digest


def published(mill: Mill) -> str:
    return mill.live().content.content_digest


class Run:
    """A run in a process of its own, whose words are kept."""

    def __init__(self, mill: Mill, *command: str) -> None:
        mill.open()
        words = command or ("run",)
        self.log = mill.root / f"{words[0]}-{time.monotonic_ns()}.log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "embedmill", *words, str(mill.root / "pipeline.yaml"), "--json"],
            stdout=subprocess.PIPE,
            stderr=self.log.open("wb"),
            start_new_session=True,
        )

    def ended(self) -> str | None:
        """How it has ended, and what it said; None while it runs."""
        code = self.process.poll()
        return None if code is None else f"the run ended with exit code {code}: {self.log.read_text()}"

    def report(self) -> dict[str, Any]:
        """What it printed, once it has ended well."""
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, (self.process.returncode, out, self.log.read_text())
        found: dict[str, Any] = json.loads(out)
        return found


@pytest.fixture
def run(mill: Mill) -> Iterator[Callable[..., Run]]:
    """Starts runs, and ends what is left of them."""
    runs: list[Run] = []

    def start(*command: str) -> Run:
        runs.append(Run(mill, *command))
        return runs[-1]

    yield start
    for each in runs:
        each.process.kill()
        each.process.wait()


def told(mill: Mill, worker: str) -> dict[str, Any]:
    """What a worker tells of itself, nothing before it works."""
    for file in (mill.root / "mill").glob(f"test/runs/*/events/{worker}.json"):
        found: dict[str, Any] = json.loads(file.read_text())
        return found
    return {}


def test_a_run_publishes_what_the_local_engine_publishes(
    mill: Mill, run: Callable[..., Run], cluster: RayCluster, tmp_path: Path
) -> None:
    workers = {"large-0", "large-1", "small-0"}
    planned = mill.planned(ROWS)
    with Stock(planned.home, planned.plan) as stock:
        driver = run()
        stock.hand_out_until_done_by(*workers, unless=driver.ended)
    report = driver.report()
    assert published(mill) == digest_of_the_local_engine(mill, tmp_path / "local")
    assert {share["worker"] for share in report["shares"]} == workers
    addresses = {node.address for node in cluster.nodes[1:]}
    assert {share["server"] for share in report["shares"]} == addresses
    assert sum(share["vectors"] for share in report["shares"]) == report["computed"] == len(ROWS)


def test_a_node_that_dies_in_the_middle_is_survived(
    mill: Mill, run: Callable[..., Run], joined: RayNode, tmp_path: Path
) -> None:
    planned = mill.planned(ROWS)
    with Stock(planned.home, planned.plan) as stock:
        driver = run()
        stock.hand_out_until_done_by("joined-0", unless=driver.ended)
        joined.kill()
    report = driver.report()
    assert published(mill) == digest_of_the_local_engine(mill, tmp_path / "local")
    assert report["embedded"] == report["total"] == len(ROWS)


def test_a_node_that_joins_in_the_middle_works_too(
    mill: Mill, run: Callable[..., Run], request: pytest.FixtureRequest
) -> None:
    mill.settings["ray"]["families"] = {"joined": mill.settings["ray"]["families"]["joined"]}
    mill.write(ROWS)
    driver = run()
    until(lambda: "no node has pool=joined" in driver.log.read_text(), "it says what is missing")
    assert driver.process.poll() is None
    request.getfixturevalue("joined")
    assert {share["worker"] for share in driver.report()["shares"]} == {"joined-0"}


def test_a_driver_that_is_killed_leaves_loops_that_the_next_one_finds(
    mill: Mill, run: Callable[..., Run], tmp_path: Path
) -> None:
    planned = mill.planned(ROWS)
    with Stock(planned.home, planned.plan) as stock:
        first = run()
        stock.hand_out_until_done_by("small-0", unless=first.ended)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    (plan,) = open_plans(mill.home)
    url = f"{mill.home.url}/runs/{plan.run}"
    loops = {line[line.index("--name") + 1]: loop for loop in loops_of(url) if (line := loop.cmdline())}
    assert "small-0" in loops
    report = run().report()
    assert report["resumed"] is True
    assert published(mill) == digest_of_the_local_engine(mill, tmp_path / "local")
    assert told(mill, "small-0").get("starts", 1) == 1, "it was found, and not started again"
    assert loops_of(url) == []


def loops_of(url: str) -> list[Any]:
    from types import SimpleNamespace

    return loops_on(SimpleNamespace(url=url))  # type: ignore[arg-type]


def test_ctrl_c_stops_the_loops_and_resume_finishes(
    mill: Mill, run: Callable[..., Run], tmp_path: Path
) -> None:
    planned = mill.planned(ROWS)
    with Stock(planned.home, planned.plan) as stock:
        first = run()
        stock.hand_out_until_done_by("small-0", unless=first.ended)
        first.process.send_signal(signal.SIGINT)
        first.process.communicate(timeout=PATIENCE_S)
    assert first.process.returncode in {75, 130}, first.log.read_text()
    (plan,) = open_plans(mill.home)
    assert loops_of(f"{mill.home.url}/runs/{plan.run}") == []
    assert run("resume").report()["resumed"] is True
    assert published(mill) == digest_of_the_local_engine(mill, tmp_path / "local")


def test_a_drained_run_ends_and_leaves_no_loops(mill: Mill, run: Callable[..., Run]) -> None:
    planned = mill.planned(ROWS)
    with Stock(planned.home, planned.plan) as stock:
        driver = run()
        stock.hand_out_until_done_by("small-0", unless=driver.ended)
        (plan,) = open_plans(mill.home)
        drain(mill.home, plan.run)
        driver.process.communicate(timeout=PATIENCE_S)
    assert driver.process.returncode == 75, driver.log.read_text()
    assert loops_of(f"{mill.home.url}/runs/{plan.run}") == []


def test_workers_that_can_never_work_end_the_run_with_their_words(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedmill.engines.ray.engine.version", lambda _: "9.9")
    mill.write(ROWS)
    said: list[str] = []

    def hear(progress: Progress) -> None:
        said.append(progress.note)

    with pytest.raises(WorkerFailed, match=r"has embedmill 0\.1\.0, and the run 9\.9"):
        mill.open().run(on_progress=hear)


@pytest.fixture
def relay(cluster: RayCluster, seaweed: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """A way to a bucket over the nodes' links. Asked for before `head`: it is on a machine of its own."""
    with Relay(seaweed.endpoint, at=cluster.gateway) as relay:
        as_identity(monkeypatch, seaweed.admin, relay.endpoint)
        yield relay


def test_a_link_that_is_cut_silently_takes_its_store_along_and_is_survived(
    relay: Relay,
    seaweed: S3,
    mill: Mill,
    run: Callable[..., Run],
    joined: RayNode,
    late: Callable[[], RayNode],
    cluster: RayCluster,
    tmp_path: Path,
) -> None:
    """Shards are kept until the link is cut, and then the other node joins."""
    mill.settings |= {"store": seaweed.new_url(), "work": {**WORK, "lend_keys": True}}
    families = mill.settings["ray"]["families"]
    mill.settings["ray"]["families"] = {
        "joined": families["joined"],
        "late": families["small"] | {"labels": {"pool": "late"}},
    }
    rows = items(600)
    planned = mill.planned(rows)
    with Stock(planned.home, planned.plan) as stock:
        driver = run()
        stock.hand_out_until_done_by("joined-0", unless=driver.ended)
        begun_s = time.monotonic()
        cluster.cut(joined)
        late()
    report = driver.report()
    print(f"finished {time.monotonic() - begun_s:.0f} s after the cut: {driver.log.read_text()}")  # noqa: T201
    assert {share["worker"] for share in report["shares"]} == {"joined-0", "late-0"}
    assert report["embedded"] == report["total"] == len(rows)
    assert published(mill) == digest_of_the_local_engine(mill, tmp_path / "local", rows)


@pytest.fixture
def late(cluster: RayCluster) -> Iterator[Callable[[], RayNode]]:
    """Lets a node join, `pool=late`, whenever the test says so."""
    nodes: list[RayNode] = []

    def join() -> RayNode:
        nodes.append(cluster.join(NodeSetup(cpus=1, labels={"pool": "late"})))
        return nodes[-1]

    yield join
    for node in nodes:
        cluster.remove(node)
