"""Whole runs with `engine: kubernetes`: whatever befalls pods, the release is that of the local engine."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.contracts.controller_suite import ControllerSuite
from tests.support.kubernetes_api import NAMESPACE, ApiServer
from tests.support.kubernetes_cluster import Cluster, Pod
from tests.support.mill import Mill, items
from tests.support.stock import Stock

from embedmill.errors import WorkerFailed
from embedmill.release.draining import drain
from embedmill.types import Progress

ROWS = items(1200)
WORK = {"shard_rows": 6, "attempts": 3}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with Cluster(tmp_path / "pods") as cluster, ApiServer(cluster) as api:
        monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path / "kubeconfig")))
        yield cluster
        assert not api.strange


@pytest.fixture
def mill(tmp_path: Path, tiny_model: Path) -> Mill:
    """A pipeline whose store is a folder that pods mount, with two workers on processors."""
    root = tmp_path / "pipeline"
    root.mkdir()
    image = {
        "image": f"registry.internal/worker@sha256:{'ab' * 32}",
        "runtimes": {"onnx": "1.22.0"},
        "device": "cpu",
        "command": [sys.executable, "-m", "embedmill"],
    }
    (root / "images.yaml").write_text(yaml.safe_dump({"images": {"cpu": image}}))
    section: dict[str, Any] = {
        "namespace": NAMESPACE,
        "families": {"cpu": {"workers": 2, "cpus": 1}},
        "mounts": {str(root): "pipelines"},
        "grace_s": 10,
    }
    return Mill(
        root,
        tiny_model,
        settings={
            "engine": "kubernetes",
            "kubernetes": section,
            "work": WORK,
            "store": str(root / "mill"),
        },
    )


def digest_of_the_local_engine(mill: Mill, folder: Path) -> str:
    folder.mkdir()
    other = Mill(folder, mill.model, settings={"work": WORK})
    other.run(ROWS)
    return other.live().content.content_digest


def published(mill: Mill) -> str:
    return mill.live().content.content_digest


def in_background(mill: Mill, said: list[str]) -> tuple[threading.Thread, list[BaseException]]:
    """A run that goes on while the test does things to its pods."""
    failed: list[BaseException] = []

    def hear(progress: Progress) -> None:
        if progress.note:
            said.append(progress.note)

    def go() -> None:
        try:
            mill.open().run(on_progress=hear)
        except BaseException as error:  # noqa: BLE001 - the test raises it
            failed.append(error)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    return thread, failed


def working(cluster: Cluster, stock: Stock, worker: str) -> Pod:
    """Its pod, once it has done a part of the run, which is not over while the stock lasts."""
    stock.hand_out_until_done_by(worker)
    found = cluster.pod(worker)
    assert found is not None
    return found


def test_a_run_publishes_what_the_local_engine_publishes(
    cluster: Cluster, mill: Mill, tmp_path: Path
) -> None:
    mill.write(ROWS)
    report = mill.open().run()
    assert published(mill) == digest_of_the_local_engine(mill, tmp_path / "local")
    assert {share.worker for share in report.shares} <= {"cpu-0", "cpu-1"}
    assert {share.server for share in report.shares} <= {"node-0", "node-1", ""}, (
        "'' of one that was too quick"
    )
    assert sum(share.vectors for share in report.shares) == report.computed == len(ROWS)
    assert (cluster.jobs, cluster.pods) == ({}, {})


def kill(cluster: Cluster, pod: Pod) -> None:
    assert pod.process is not None
    pod.process.kill()


def ask_to_stop(cluster: Cluster, pod: Pod) -> None:
    assert pod.process is not None
    pod.process.terminate()


BEFALLS: dict[str, Callable[[Cluster, Pod], None]] = {
    "killed": kill,
    "yields": ask_to_stop,
    "evicted": lambda cluster, pod: cluster.evict(pod),
    "preempted": lambda cluster, pod: cluster.evict(pod, "PreemptionByScheduler"),
    "node lost": lambda cluster, pod: cluster.lose_node(pod),
}


@pytest.mark.parametrize("what", BEFALLS)
def test_whatever_befalls_a_pod_nothing_is_lost(
    cluster: Cluster, mill: Mill, tmp_path: Path, what: str
) -> None:
    planned = mill.planned(ROWS)
    cluster.held = {1}
    with Stock(planned.home, planned.plan) as stock:
        thread, failed = in_background(mill, [])
        BEFALLS[what](cluster, working(cluster, stock, "cpu-0"))
        cluster.held = set()
    thread.join(240)
    assert not thread.is_alive()
    assert not failed
    assert published(mill) == digest_of_the_local_engine(mill, tmp_path / "local")


def test_a_worker_that_can_never_work_is_said_and_the_run_ends_if_none_can(
    cluster: Cluster, mill: Mill
) -> None:
    images = yaml.safe_load((mill.root / "images.yaml").read_text())
    images["images"]["cpu"]["command"] = ["/bin/sh", "-c", "echo there is no GPU >&2; exit 42"]
    (mill.root / "images.yaml").write_text(yaml.safe_dump(images))
    mill.write(ROWS)
    said: list[str] = []
    with pytest.raises(WorkerFailed, match="there is no GPU"):
        mill.open().run(on_progress=lambda progress: said.append(progress.note))
    assert "cpu-0 ended with exit code 42: there is no GPU" in said
    assert cluster.jobs == {}


class TestControllerOfPods(ControllerSuite):
    @pytest.fixture
    def settings(self, cluster: Cluster, mill: Mill) -> Iterator[dict[str, Any]]:
        yield mill.settings
        assert len({job for job, _ in cluster.indexes}) == 1, "pods that went on were found: no second Job"


def test_a_drained_run_ends_and_leaves_no_pods(cluster: Cluster, mill: Mill) -> None:
    planned = mill.planned(ROWS)
    cluster.held = {1}
    with Stock(planned.home, planned.plan) as stock:
        thread, failed = in_background(mill, [])
        working(cluster, stock, "cpu-0")
        drain(mill.home, planned.plan.run)
        thread.join(240)
    assert not thread.is_alive()
    assert [type(error).__name__ for error in failed] == ["Yielded"]
    assert (cluster.jobs, cluster.pods) == ({}, {})


def test_deploy_batch_renders_the_jobs_that_a_run_submits(
    cluster: Cluster, mill: Mill, tmp_path: Path
) -> None:
    planned = mill.planned(ROWS)
    command = [sys.executable, "-m", "embedmill", "deploy", "batch", str(mill.root / "pipeline.yaml")]
    command += ["--out", str(tmp_path / "manifests"), "--run", planned.plan.run, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["pipeline"], report["namespace"], report["run"]) == ("test", NAMESPACE, planned.url)
    assert "jobs/job-cpu.yaml" in report["files"]
    rendered = yaml.safe_load((tmp_path / "manifests/jobs/job-cpu.yaml").read_bytes())
    engine = mill.open().engine()
    engine.start(planned.url, mill.open().places(planned.plan).look(100, ()).free)
    with cluster.lock:
        (submitted,) = cluster.jobs.values()
        for own in ("uid", "creationTimestamp"):
            submitted["metadata"].pop(own)
        assert {key: submitted[key] for key in rendered} == rendered
    engine.stop()
