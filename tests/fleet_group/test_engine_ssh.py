"""`embedmill run --engine ssh` on real servers: sshd in network namespaces, GPUs told by a fake NVML."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fleet_group.borrowed import (
    SERVERS,
    Fleet,
    begin,
    digest_of_a_local_run,
    end,
    interrupt,
    live,
    make_pipeline,
)
from tests.support.gpu_servers import GpuServers
from tests.support.killing import commits, end_of, home, stock_of
from tests.support.relay import Relay
from tests.support.sts import ROLE

from embedmill.release.runs import open_plans

ITEMS = 240
LARGE_ITEMS = 2400
WORKERS = ("gpu-01-0", "gpu-02-0")
TOKENS = re.compile(r"AWS_(SECRET_ACCESS_KEY|SESSION_TOKEN)")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The pid of a process whose name is `train`."""
    program = tmp_path_factory.mktemp("bin") / "train"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "3600"]) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def fleet(
    tmp_path_factory: pytest.TempPathFactory, namespaces: None, library: Path, training: int
) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with GpuServers(folder) as servers:
        fleet = Fleet(servers, folder, training)
        for name in SERVERS:
            fleet.start(name, busy=name == SERVERS[-1])
        fleet.write(folder)
        yield fleet


@pytest.fixture(scope="module")
def local_digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    return digest_of_a_local_run(tmp_path_factory.mktemp("local"), items=ITEMS)


@pytest.mark.soak(quick=1, large=2)
def test_idle_gpus_share_a_run_and_a_busy_one_is_passed_over(fleet: Fleet, seed: int) -> None:
    items = ITEMS if seed == 0 else LARGE_ITEMS
    spec = make_pipeline(fleet.folder, "shop", items=items)
    running = begin(fleet, spec)
    fleet.let_each_commit(spec, "gpu-01", "gpu-02")
    report, said = end(running, timeout_s=900)
    shares = {share["worker"]: share for share in report["shares"]}
    assert shares.keys() == {"gpu-01-0", "gpu-02-0"}
    assert {(share["type"], share["image"]) for share in shares.values()} == {("cpu", "cpu")}
    assert sum(share["vectors"] for share in shares.values()) == report["computed"] == items
    assert all(share["vectors"] > 0 for share in shares.values())
    assert "fleet: gpu-03 #0 (Tesla T4): not taken: busy: " in said
    assert live(spec).content.content_digest == digest_of_a_local_run(fleet.folder, items=items)
    assert not fleet.workers()


def test_a_server_that_dies_is_survived_by_the_other(fleet: Fleet, local_digest: str) -> None:
    spec = make_pipeline(fleet.folder, "shop", items=ITEMS)
    process = begin(fleet, spec)
    fleet.let_each_commit(spec, "gpu-01", "gpu-02")
    fleet.kill("gpu-01")
    report, _ = end(process)
    assert live(spec).content.content_digest == local_digest
    assert any(share["worker"] == "gpu-02-0" for share in report["shares"])


def test_a_gpu_that_is_wanted_back_is_left_and_taken_again_when_it_is_idle(
    fleet: Fleet, local_digest: str
) -> None:
    """The test has the last shard until both are left, so that the run cannot be over before."""
    spec = make_pipeline(fleet.folder, "shop", items=ITEMS)
    with stock_of(spec, elsewhere=True) as stock:
        process = begin(fleet, spec, "run", "--wait")
        stock.hand_out_until_done_by(*WORKERS, unless=end_of(process))
        stock.hand_out_all_but_one()
        fleet.turn("gpu-01", busy=True)
        fleet.turn("gpu-02", busy=True)
        wait_until_no_worker_is_left(fleet)
    fleet.turn("gpu-02", busy=False)
    _, said = end(process)
    assert "fleet: gpu-01-0 ended with exit code 75" in said
    assert live(spec).content.content_digest == local_digest


def test_ctrl_c_stops_the_workers_and_resume_finishes(fleet: Fleet, local_digest: str) -> None:
    spec = make_pipeline(fleet.folder, "shop", items=ITEMS)
    with stock_of(spec, elsewhere=True) as stock:
        process = begin(fleet, spec)
        stock.hand_out_until_done_by(*WORKERS, unless=end_of(process))
        code, said = interrupt(process)
    assert (code, "resume" in said, "Traceback" in said) == (130, True, False)
    assert not fleet.workers()
    before = commits(spec)
    end(begin(fleet, spec, "resume"))
    assert before.items() <= commits(spec).items()
    assert live(spec).content.content_digest == local_digest


def test_workers_outlive_a_killed_run_and_resume_finds_them(fleet: Fleet, local_digest: str) -> None:
    spec = make_pipeline(fleet.folder, "shop", items=ITEMS)
    with stock_of(spec, elsewhere=True) as stock:
        process = begin(fleet, spec)
        stock.hand_out_until_done_by(*WORKERS, unless=end_of(process))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        before = {worker.pid for workers in fleet.workers().values() for worker in workers}
    end(begin(fleet, spec, "resume"))
    assert before, "no worker outlived the run"
    assert live(spec).content.content_digest == local_digest


def test_where_nothing_is_idle_a_run_says_who_is_busy_and_exits_75(fleet: Fleet) -> None:
    for name in SERVERS:
        fleet.turn(name, busy=True)
    process = begin(fleet, make_pipeline(fleet.folder, "shop", items=12))
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 75
    for name in SERVERS:
        assert f"{name} #0 (Tesla T4): not taken: busy: " in out
    assert "with --wait it waits" in out


def test_workers_on_a_bucket_get_keys_of_a_role_and_nobody_can_read_any(
    fleet: Fleet, store_with_roles: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Relay(os.environ["AWS_ENDPOINT_URL_S3"], at=fleet.address) as relay:
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS"):
            monkeypatch.setenv(name, relay.endpoint)
        work = {"shard_rows": 2, "look_again_s": 60, "role": ROLE}
        spec = make_pipeline(fleet.folder, "shop", items=ITEMS, store=store_with_roles, work=work)
        with stock_of(spec, elsewhere=True) as stock:
            process = begin(fleet, spec)
            stock.hand_out_until_done_by(*WORKERS, unless=end_of(process))
            seen = list(fleet.readable())
        while process.poll() is None and fleet.workers():
            seen += list(fleet.readable())
            time.sleep(0.2)
        report, said = end(process)
        mine = os.environ["AWS_SECRET_ACCESS_KEY"]
        assert seen
        assert not [text for text in [*seen, said, str(report)] if mine in text or TOKENS.search(text)]
        assert {share["server"] for share in report["shares"]} <= {"gpu-01", "gpu-02"}
        assert report["computed"] == ITEMS


def test_keys_that_last_are_not_given_to_servers_of_others(fleet: Fleet, store_with_roles: str) -> None:
    spec = make_pipeline(fleet.folder, "shop", items=12, store=store_with_roles)
    process = begin(fleet, spec)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 2
    assert "set `work.role` to an IAM role for workers; or set `work.lend_keys: true`" in out
    assert next(open_plans(home(spec)), None) is None, "it was planned before it was refused"


def wait_until_no_worker_is_left(fleet: Fleet) -> None:
    deadline = time.monotonic() + 240
    while fleet.workers():
        assert time.monotonic() < deadline, "a worker does not give its GPU back"
        time.sleep(0.1)
