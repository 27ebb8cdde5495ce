"""A real worker gives its GPU back within 10 s when training comes to it, and nothing of the run is lost."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tests.fleet_group.one_gpu import GPU, Gpu
from tests.fleet_group.slow_workers import SLOW_STORE, SLOWLY
from tests.models import tiny_bert_folder
from tests.support.fake_gpus import FakeGpu, FakeMig, FakeProcess, Scenario
from tests.support.holding import Server, is_gone, kill, server_in
from tests.support.mill import Mill, items
from tests.support.patience import PATIENCE_S, until
from tests.support.stock import Stock

from embedmill.devices.locks import holder_of
from embedmill.errors import ObjectMissing
from embedmill.model.sentence_transformers import import_sentence_transformers
from embedmill.planned import PlannedRun
from embedmill.spec.documents import CommitRecord
from embedmill.work import WorkerOptions, work

pytestmark = pytest.mark.timeout(1500)

WITHIN_S = 10.0
"""Judged of the 99th percentile of many trials, for which a machine is idle."""
OF_FEW_S = 3 * WITHIN_S
"""For the best of few, on a machine that does other things."""
MANY = 50
ROWS, SHARD_ROWS, BATCH_TOKENS = 300, 150, 32
"""A batch is one row, so that a shard has many."""
WATCH = {"every_s": 1.0, "memory_mib": 500, "baseline_mib": 3, "exempt": ["Xorg"], "utilisation": 5}


@pytest.fixture
def gpu(tmp_path: Path, library: Path) -> Gpu:
    found = Gpu(tmp_path / "scenario", library)
    found.idle()
    return found


@pytest.fixture
def training() -> Iterator[int]:
    """A process that is not ours."""
    process = subprocess.Popen(["sleep", "600"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture
def server(tmp_path: Path, gpu: Gpu) -> Iterator[Server]:
    with server_in(tmp_path / "fleet", **gpu.environment) as found:
        yield found


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes some seconds for a shard."""
    folder = tmp_path_factory.mktemp("slow")
    source = tiny_bert_folder(folder / "source", layers=6, hidden=256)
    import_sentence_transformers(source, folder / "package", template=" ".join(["{title}"] * 8))
    return folder / "package"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, slow_model: Path) -> str:
    """The content digest of a run that nobody disturbed."""
    mill = Mill(tmp_path_factory.mktemp("undisturbed"), slow_model, settings=settings())
    mill.run(items(ROWS))
    return mill.live().content.content_digest


@pytest.fixture(scope="module", autouse=True)
def seconds(request: pytest.FixtureRequest) -> Iterator[dict[str, list[float]]]:
    """Times to yield, told when all trials are over."""
    found: dict[str, list[float]] = {}
    yield found
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    assert capture is not None
    for who, times in found.items():
        times.sort()
        p99, middle = times[int(0.99 * (len(times) - 1) + 0.5)], times[len(times) // 2]
        figures = f"median {middle:.2f} s, p99 {p99:.2f} s, most {times[-1]:.2f} s, of {len(times)}"
        said = f"time to yield, watched by the {who}: {figures}"
        with capture.global_and_fixture_disabled():
            print(f"\n{said}")  # noqa: T201 - figures of a soak
        assert times[0] < OF_FEW_S, said
        assert len(times) < MANY or p99 < WITHIN_S, said


@pytest.fixture(scope="module")
def given_up() -> Iterator[list[int]]:
    """Rows of the shard that each trial left undone: whoever went in time was in the middle of its shard."""
    found: list[int] = []
    yield found
    assert any(found) or not found, "every trial had done its shard before it went"


def settings() -> dict[str, object]:
    return {"work": {"shard_rows": SHARD_ROWS, "batch_tokens": BATCH_TOKENS}}


def command_of(run: PlannedRun, *options: str) -> list[str]:
    return [sys.executable, "-m", "embedmill", *words_of(run, *options)]


def words_of(run: PlannedRun, *options: str) -> list[str]:
    return ["worker", "--run", run.url, "--name", "first", *options]


def event(run: PlannedRun) -> dict[str, object]:
    with suppress(ObjectMissing):
        found: dict[str, object] = json.loads(
            run.home.store.get(run.home.run_key(run.plan.run, "events", "first.json"))
        )
        return found
    return {"shard": None, "shard_done": 0, "rows_done": 0}


def has_begun(run: PlannedRun) -> bool:
    return int(str(event(run)["rows_done"])) + int(str(event(run)["shard_done"])) > 0


@contextmanager
def kept_but_one(run: PlannedRun) -> Iterator[None]:
    """A run of which one shard is handed out, so that it is not over, however fast its worker is."""
    with Stock(run.home, run.plan, elsewhere=True) as stock:
        stock.hand_out_all_but_one()
        yield


def names(run: PlannedRun, *folder: str) -> set[str]:
    return {info.key for info in run.home.store.list(run.home.run_key(run.plan.run, *folder))}


def commits_of(run: PlannedRun, worker: str) -> list[CommitRecord]:
    records = [run.home.read(CommitRecord, key) for key in names(run, "commits")]
    return [record for record in records if record.worker == worker]


def assert_the_rest_is_whole(mill: Mill, run: PlannedRun, undisturbed: str) -> int:
    """Another worker takes what is left: no shard is lost, one at most is done twice.

    Returns how many rows of it.
    """
    first = commits_of(run, "first")
    leases, committed = ({Path(key).stem for key in names(run, folder)} for folder in ("leases", "commits"))
    assert leases <= committed, "a lease was kept"
    wasted = int(str(event(run)["rows_done"])) - sum(record.rows for record in first)
    assert 0 <= wasted <= SHARD_ROWS
    assert wasted or first, "it had begun"
    done = work(run.home, run.plan.run, WorkerOptions("second"))
    assert done.shards + len(first) == len(run.plan.shards)
    vectors = list(run.home.store.list(run.home.release_key(run.plan.run, "vectors")))
    assert len(vectors) == len(run.plan.shards), "an attempt that was given up left something"
    run.run()
    assert mill.live().content.content_digest == undisturbed
    return wasted


def test_of_a_gpu_in_slices_only_who_comes_to_our_slice_sends_us_away(
    server: Server, gpu: Gpu, training: int
) -> None:
    ours, theirs = FakeMig("MIG-ours", gi=7), FakeMig("MIG-theirs", gi=8)

    def sliced(*processes: FakeProcess) -> None:
        used = [replace(each, used_mib=2000) for each in (ours, theirs) if processes]
        card = FakeGpu(GPU, "NVIDIA A100-SXM4-40GB", 40960, mig=1, migs=tuple(used) or (ours, theirs))
        Scenario([card], processes).write(gpu.scenario)

    sliced()
    pid = server.start("first", [ours.uuid], watch=WATCH)["pid"]
    own, beside = (FakeProcess(0, pid, 1990, mig=ours), FakeProcess(0, training, 1990, mig=theirs))
    sliced(own, beside)
    assert server.start("second", [theirs.uuid], watch=WATCH)["state"] == "busy"
    time.sleep(4)
    assert server.runs("first"), "the other slice is somebody else's"
    sliced(own, beside, FakeProcess(0, training, 0, mig=ours))
    until(lambda: is_gone(pid), "the worker's end")
    until(lambda: not server.runs("first"), "the holder's end")
    state = server.state("first")
    assert state["exit_code"] == 75
    assert f"MIG-ours: pid {training} (sleep) came" in state["said"]


@pytest.mark.parametrize("who", ["holder", "worker"])
@pytest.mark.soak(quick=3, large=MANY)
def test_training_that_comes_has_its_gpu_within_10_s_and_the_run_loses_nothing(
    tmp_path: Path,
    slow_model: Path,
    undisturbed: str,
    server: Server,
    gpu: Gpu,
    training: int,
    seconds: dict[str, list[float]],
    given_up: list[int],
    who: str,
    seed: int,
) -> None:
    mill = Mill(tmp_path, slow_model, settings=settings())
    run = mill.planned(items(ROWS))
    watching = ["--watch-gpu", GPU] if who == "worker" else []
    command = [sys.executable, "-c", SLOWLY, *words_of(run, *watching)]
    with kept_but_one(run):
        pid = server.start("first", [GPU], command, watch=WATCH if who == "holder" else None)["pid"]
        gpu.taken_by(pid)
        until(lambda: has_begun(run), "work")
        time.sleep(random.Random(seed).uniform(0, 2))
        gpu.taken_by(pid, training)
        took = until(lambda: is_gone(pid), "the worker's end")
        seconds.setdefault(who, []).append(took)
        until(lambda: not server.runs("first"), "the holder's end")
    state = server.state("first")
    assert state["exit_code"] == 75
    assert f"pid {training} (sleep) came" in state["said"]
    assert holder_of(str(server.folder), GPU) is None
    given_up.append(assert_the_rest_is_whole(mill, run, undisturbed))


def test_a_worker_that_hangs_when_training_comes_is_killed_and_counts_as_one_that_yielded(
    mill: Mill, server: Server, gpu: Gpu, training: int
) -> None:
    run = mill.planned(items(10))
    pid = server.start(
        "first", [GPU], ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], watch=WATCH
    )["pid"]
    assert run.plan.shards
    gpu.taken_by(training)
    until(lambda: is_gone(pid), "its end")
    until(lambda: not server.runs("first"), "the holder's end")
    assert server.state("first")["exit_code"] == 75


def test_a_worker_alone_that_hangs_ends_itself(mill: Mill, gpu: Gpu, training: int) -> None:
    """As in a kernel that never returns: no batch ends, so that nobody asks."""
    run = mill.planned(items(10))
    options = ["worker", "--run", run.url, "--name", "first", "--watch-gpu", GPU]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_STORE, *options],
        env={**os.environ, **gpu.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "hanging\n"
    gpu.taken_by(training)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 75
    assert said.endswith(f"pid {training} (sleep) came; it did not stop in 5 s\n")


@pytest.mark.parametrize("how", ["no answer", "lost", "no driver"])
def test_a_gpu_that_is_out_of_sight_is_given_back(server: Server, gpu: Gpu, how: str) -> None:
    pid = server.start("first", [GPU], watch=WATCH)["pid"]
    gpu_there = [FakeGpu(GPU)]
    match how:
        case "no answer":
            Scenario(gpu_there, hang={"nvmlDeviceGetComputeRunningProcesses_v3": 60}).write(gpu.scenario)
        case "lost":
            Scenario(gpu_there, fail={"nvmlDeviceGetComputeRunningProcesses_v3": 15}).write(gpu.scenario)
        case "no driver":
            Scenario([]).write(gpu.scenario)
    until(lambda: is_gone(pid), "its end")
    until(lambda: not server.runs("first"), "the holder's end")
    state = server.state("first")
    assert state["exit_code"] == 75
    assert GPU in state["said"]


def test_children_of_the_worker_are_no_strangers(server: Server, gpu: Gpu, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 600 & echo $! > {pids}; (setsid sleep 600 & echo $! >> {pids}; wait) & wait"
    pid = server.start("first", [GPU], ["sh", "-c", script], watch=WATCH)["pid"]
    until(lambda: pids.is_file() and len(pids.read_text().split()) == 2, "children")
    gpu.taken_by(pid, *map(int, pids.read_text().split()))
    time.sleep(4)
    assert server.runs("first")
    for child in pids.read_text().split():
        kill(int(child))


def test_processes_of_the_workers_container_are_no_strangers(
    server: Server, gpu: Gpu, tmp_path: Path, cgroup: Path
) -> None:
    """They descend from the container's own monitor; the control group has the container's id in its name."""
    cidfile, inside = tmp_path / "cid", tmp_path / "inside"
    cidfile.write_text("of the container before")
    script = f"echo {cgroup.name} > {cidfile}; (setsid sleep 600 & echo $! > {inside}); wait; sleep 600"
    server.start("first", [GPU], ["sh", "-c", script], watch=WATCH, cidfile=str(cidfile))
    until(lambda: inside.is_file() and bool(inside.read_text().strip()), "a process inside")
    pid = inside.read_text().strip()
    (cgroup / "cgroup.procs").write_text(pid)
    gpu.taken_by(int(pid))
    time.sleep(4)
    assert server.runs("first")
    (cgroup.parent / "cgroup.procs").write_text(pid)
    until(lambda: not server.runs("first"), "its end: that is no process of the container")
    kill(int(pid))


def test_memory_of_nobody_that_can_be_seen_is_a_reason_too(server: Server, gpu: Gpu) -> None:
    pid = server.start("first", [GPU], watch=WATCH)["pid"]
    Scenario([FakeGpu(GPU, used_mib=2400)], [FakeProcess(0, pid, 2000)]).write(gpu.scenario)
    time.sleep(3)
    assert server.runs("first"), "400 MiB are within the margin"
    Scenario([FakeGpu(GPU, used_mib=2600)], [FakeProcess(0, pid, 2000)]).write(gpu.scenario)
    until(lambda: is_gone(pid), "its end")
    until(lambda: not server.runs("first"), "the holder's end")
    assert "597 MiB are in use that are not ours" in server.state("first")["said"]


def test_a_gpu_that_is_no_longer_idle_when_its_lock_is_taken_is_left_alone(
    server: Server, gpu: Gpu, training: int
) -> None:
    gpu.taken_by(training)
    answer = server.start("first", [GPU], watch=WATCH)
    assert (answer["state"], answer["gpu"]) == ("busy", GPU)
    assert answer["reason"] == f"pid {training} (sleep) is there"
    assert holder_of(str(server.folder), GPU) is None
    Scenario([FakeGpu(GPU, utilisation=(60,))]).write(gpu.scenario)
    assert "60 %" in server.start("first", [GPU], watch=WATCH)["reason"]
    Scenario([FakeGpu("GPU-2")]).write(gpu.scenario)
    assert server.start("first", [GPU], watch=WATCH)["state"] == "failed"


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("by", ["the model", "the server", None])
def test_in_a_container_memory_tells_of_others_where_our_own_is_limited(
    tmp_path: Path, slow_model: Path, gpu: Gpu, by: str | None
) -> None:
    """There NVML lists nobody: 100 MiB of ours, 1024 MiB of CUDA's and the margin may be in use."""
    package = Path(shutil.copytree(slow_model, tmp_path / "limited"))
    spec = yaml.safe_load((package / "model.yaml").read_text())
    spec["runtimes"][0]["memory_limit_mib"] = 100
    (package / "model.yaml").write_text(yaml.safe_dump(spec))
    mill = Mill(tmp_path, package if by == "the model" else slow_model, settings=settings())
    run = mill.planned(items(ROWS))
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    limit = ["--gpu-memory", "100"] if by == "the server" else []
    with kept_but_one(run):
        process = subprocess.Popen(
            [*alone, *command_of(run, "--watch-gpu", GPU, *limit)],
            env={**os.environ, **gpu.environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: has_begun(run), "work")
        Scenario([FakeGpu(GPU, used_mib=3 + 100 + 1024 + 500)]).write(gpu.scenario)
        time.sleep(2.5)
        assert process.poll() is None
        Scenario([FakeGpu(GPU, used_mib=3 + 100 + 1024 + 501)]).write(gpu.scenario)
        if by:
            process.wait(PATIENCE_S)
    _, said = process.communicate(timeout=240)
    assert process.returncode == (75 if by else 0)
    assert ("501 MiB are in use that are not ours" in said) is bool(by)


def test_a_driver_that_hangs_holds_up_neither_who_asks_nor_the_locks(server: Server, gpu: Gpu) -> None:
    Scenario([FakeGpu(GPU)], hang={"nvmlInit_v2": 60}).write(gpu.scenario)
    answer = server.start("first", [GPU], watch=WATCH)
    assert answer == {"state": "failed", "reason": "the driver gives no answer for 10 s"}
    until(lambda: holder_of(str(server.folder), GPU) is None, "a free lock")


def test_a_worker_that_gets_sigterm_leaves_the_rest_to_others(
    tmp_path: Path, slow_model: Path, undisturbed: str, gpu: Gpu
) -> None:
    mill = Mill(tmp_path, slow_model, settings=settings())
    run = mill.planned(items(ROWS))
    environment = {**os.environ, **gpu.environment}
    with kept_but_one(run):
        process = subprocess.Popen(command_of(run, "--watch-gpu", GPU), env=environment)
        until(lambda: has_begun(run), "work")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 75
    assert_the_rest_is_whole(mill, run, undisturbed)
