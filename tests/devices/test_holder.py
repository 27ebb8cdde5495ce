"""A holder keeps GPUs for one worker: nobody else gets them, and whoever ends leaves nothing behind."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.support.holding import SLEEP, Server, is_gone, kill, server_in
from tests.support.patience import until

from embedmill.devices.locks import holder_of
from embedmill.engines.ssh import holder_order
from embedmill.types import Host, Placement

DEAF = ("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
FAMILY = ("sh", "-c", "sleep 600 & echo $! >&2; wait")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with server_in(tmp_path / "fleet") as found:
        yield found


def ended(server: Server, worker: str) -> bool:
    return not server.runs(worker)


def child_of(server: Server, worker: str) -> int:
    """The pid that the worker wrote to stderr."""
    log = server.folder / "workers" / str(os.getuid()) / f"{worker}.log"
    until(lambda: log.read_text().endswith("\n"), "a pid")
    return int(log.read_text())


def test_a_worker_runs_while_its_gpus_are_held_and_outlives_who_started_it(server: Server) -> None:
    started = server.start("w1", ["GPU-1", "GPU-2"])
    assert started == {"state": "started", "pid": server.note("w1")["pid"]}
    assert not is_gone(started["pid"])
    for gpu in ("GPU-1", "GPU-2"):
        refused = server.start("w2", [gpu])
        assert (refused["state"], refused["gpu"]) == ("taken", gpu)
        assert "worker w1" in refused["by"]
    assert server.state("w2")["running"] is False
    assert server.start("w3", ["GPU-3"])["state"] == "started"


def test_a_worker_that_runs_already_is_left_alone(server: Server) -> None:
    started = server.start("w1", ["GPU-1"])
    assert server.start("w1", ["GPU-1"]) == {"state": "running", "pid": started["pid"]}
    assert server.start("w1", ["GPU-2"]) == {"state": "running", "pid": started["pid"]}


def test_workers_are_found_and_stopped_by_the_ending_of_their_names(server: Server) -> None:
    for name, gpu in (("w1.abc", "GPU-1"), ("w2.abc", "GPU-2"), ("w3.def", "GPU-3")):
        server.start(name, [gpu])
    found = server.ask("states", ending=".abc")["workers"]
    assert [(each["worker"], each["running"]) for each in found] == [("w1.abc", True), ("w2.abc", True)]
    stopped = server.ask("stop", ending=".abc")["workers"]
    assert [(each["worker"], each["running"]) for each in stopped] == [("w1.abc", False), ("w2.abc", False)]
    assert server.runs("w3.def")


def test_whoever_finds_a_gpu_taken_reads_which_run_has_it(server: Server) -> None:
    place = Placement("gpu-01-0", host=Host("gpu-01", (), str(server.folder)), gpus=("GPU-1",))
    order = holder_order(place, "s3://secret-bucket/mill/shop/runs/20260130T120000000-0000", {})
    server.ask("start", **{**order, "command": list(SLEEP), "watch": None})
    said = holder_of(str(server.folder), "GPU-1") or ""
    assert f"worker {order['worker']} (pipeline shop, run 20260130T120000000-0000), pid " in said
    assert "secret-bucket" not in said


def test_one_of_two_gpus_that_is_taken_leaves_the_other_free(server: Server) -> None:
    server.start("w1", ["GPU-2"])
    assert server.start("w2", ["GPU-1", "GPU-2"])["state"] == "taken"
    assert holder_of(str(server.folder), "GPU-1") is None


def test_a_worker_gets_its_input_and_its_environment_and_its_end_is_noted(
    server: Server, tmp_path: Path
) -> None:
    command = ["sh", "-c", f"cat > {tmp_path}/got; echo $COLOUR >> {tmp_path}/got; echo bye >&2; exit 3"]
    long = "secret\n" * 50_000
    server.start("w1", ["GPU-1"], command, input=long, environment={"COLOUR": "blue"})
    until(lambda: not server.runs("w1"), "its end")
    assert server.state("w1") == {"worker": "w1", "running": False, "exit_code": 3, "said": "bye"}
    assert (tmp_path / "got").read_text() == long + "blue\n"
    assert holder_of(str(server.folder), "GPU-1") is None
    written = [path.read_text() for path in server.folder.rglob("*") if path.is_file()]
    assert not any("secret" in text for text in written)


def test_a_worker_does_not_inherit_the_locks(server: Server) -> None:
    """A grandchild that outlives everything must not keep a GPU."""
    until_detached = 'while [ "$(cut -d " " -f 6 /proc/$!/stat)" != $! ]; do :; done'
    server.start("w1", ["GPU-1"], ["sh", "-c", f"setsid sleep 600 & {until_detached}; echo $! >&2"])
    stray = child_of(server, "w1")
    until(lambda: not server.runs("w1"), "its end")
    assert not is_gone(stray)
    assert holder_of(str(server.folder), "GPU-1") is None
    kill(stray)


def test_what_cannot_be_started_is_said_and_holds_nothing(server: Server) -> None:
    failed = server.start("w1", ["GPU-1"], ["/no/such/program"])
    assert failed["state"] == "failed"
    assert "/no/such/program: no such file" in failed["reason"]
    assert holder_of(str(server.folder), "GPU-1") is None
    assert server.start("../w1", ["GPU-1"])["state"] == "failed"
    assert server.start("w1", ["../GPU-1"])["state"] == "failed"


def test_stop_ends_workers_and_a_deaf_one_by_force(server: Server) -> None:
    server.start("polite", ["GPU-1"], ["sh", "-c", "trap 'exit 75' TERM; while :; do sleep 0.05; done"])
    server.start("deaf", ["GPU-2"], DEAF)
    codes = {each["worker"]: each["exit_code"] for each in server.stop("polite", "deaf", grace_s=1)}
    assert codes == {"polite": 75, "deaf": -signal.SIGKILL}
    assert not any(server.runs(worker) for worker in ("polite", "deaf"))
    assert server.stop("polite")[0]["exit_code"] == 75, "once more is no harm"


def test_a_killed_holder_frees_its_gpus_at_once_and_its_worker_ends_with_all_its_children(
    server: Server,
) -> None:
    started = server.start("w1", ["GPU-1"], FAMILY)
    grandchild = child_of(server, "w1")
    holder = server.note("w1")["holder"]
    kill(holder)
    until(lambda: is_gone(holder), "the holder's end")
    assert server.start("w2", ["GPU-1"])["state"] == "started", "without any wait"
    until(lambda: is_gone(started["pid"]) and is_gone(grandchild), "their end")
    said = str(grandchild)
    assert server.state("w1") == {"worker": "w1", "running": False, "exit_code": 137, "said": said}
    assert server.start("w1", ["GPU-3"])["state"] == "started", "its name is free again"


def test_what_outlives_a_worker_is_ended_by_its_cleanup_however_the_holder_ends(
    server: Server, tmp_path: Path
) -> None:
    """As a container outlives `podman run`."""
    for number, ending in enumerate(("by itself", "stopped", "killed")):
        worker, mark = f"w{number}", tmp_path / ending
        command = ["true"] if ending == "by itself" else ["sleep", "600"]
        server.start(worker, ["GPU-1"], command, cleanup=["touch", str(mark)])
        if ending == "stopped":
            server.stop(worker)
        elif ending == "killed":
            kill(server.note(worker)["holder"])
        until(mark.exists, f"cleanup after {ending}")
        until(partial(ended, server, worker), "the end")


def test_an_earlier_end_of_the_same_name_is_forgotten(server: Server) -> None:
    server.start("w1", ["GPU-1"], ["sh", "-c", "exit 75"])
    until(lambda: not server.runs("w1"), "its end")
    server.start("w1", ["GPU-1"])
    assert server.state("w1")["exit_code"] is None
    kill(server.note("w1")["holder"])
    until(lambda: not server.runs("w1"), "its end")
    assert server.state("w1")["exit_code"] == 137


@pytest.mark.parametrize(("code", "days"), [(0, 2), (75, 2), (3, 8)])
def test_what_a_worker_left_is_removed_when_another_starts_long_after_its_end(
    server: Server, code: int, days: int
) -> None:
    command = ["sh", "-c", f"echo bye >&2; exit {code}"]
    server.start("w1", ["GPU-1"], command, output=True)
    until(lambda: not server.runs("w1"), "its end")
    server.start("w2", ["GPU-1"])
    assert server.state("w1")["exit_code"] == code, "it has just ended"
    age(server, days)
    server.start("w3", ["GPU-2"])
    assert left_of(server, "w1") == set()
    assert server.runs("w2"), "however long ago it was started"
    assert server.start("w2", ["GPU-1"])["state"] == "running"
    assert server.start("w1", ["GPU-3"])["state"] == "started"


def test_what_a_failed_worker_said_is_kept_for_some_days(server: Server) -> None:
    server.start("w1", ["GPU-1"], ["sh", "-c", "echo what it was >&2; exit 3"])
    until(lambda: not server.runs("w1"), "its end")
    age(server, 2)
    server.start("w2", ["GPU-1"])
    assert server.state("w1")["said"] == "what it was"


@pytest.mark.parametrize("how", ["ended", "killed"])
def test_of_a_container_that_is_gone_no_id_stays(server: Server, how: str) -> None:
    cid_file = server.folder / "workers" / str(os.getuid()) / "embedmill-run-w1.cid"
    command = [
        "sh",
        "-c",
        f"echo 0123456789abcdef > {cid_file}; echo $$ >&2; {'exec sleep 600' * (how != 'ended')}",
    ]
    server.start("w1", ["GPU-1"], command, cidfile=str(cid_file))
    child_of(server, "w1")
    if how == "killed":
        kill(server.note("w1")["holder"])
    until(lambda: not server.runs("w1"), "its end")
    if how == "killed":
        age(server, 8)
        server.start("w2", ["GPU-1"])
    assert not cid_file.exists()


def age(server: Server, days: int) -> None:
    """As if all that lies there were written so long ago."""
    for file in (server.folder / "workers" / str(os.getuid())).iterdir():
        then_s = file.stat().st_mtime - days * 86400
        os.utime(file, (then_s, then_s))


def left_of(server: Server, worker: str) -> set[str]:
    return {file.name for file in (server.folder / "workers" / str(os.getuid())).glob(f"{worker}.*")}


def test_who_asks_for_workers_that_never_were_hears_so(server: Server) -> None:
    assert server.state("nobody") == {
        "worker": "nobody",
        "running": False,
        "exit_code": 137,
        "said": "no worker of this name was started here",
    }


@pytest.mark.parametrize("racers", [2, 4])
@pytest.mark.soak(quick=10, large=200)
def test_who_races_for_the_same_gpus_never_shares_one(tmp_path: Path, racers: int, seed: int) -> None:
    """Each wants one or both of two GPUs, in either order, until it has had them once."""
    log = tmp_path / "log"
    log.touch()
    wishes = [["GPU-1"], ["GPU-2", "GPU-1"], ["GPU-1", "GPU-2"], ["GPU-1"]]
    script = 'for gpu in "$@"; do echo enter $gpu $0; done >> {0}; '
    script += 'for gpu in "$@"; do echo leave $gpu $0; done >> {0}'

    def race(server: Server, number: int) -> None:
        worker, gpus = f"w{number}", wishes[(number + seed) % len(wishes)]
        command = ["sh", "-c", script.format(log), worker, *gpus]
        while server.start(worker, gpus, command)["state"] == "taken":
            pass

    with server_in(tmp_path / "fleet") as server:
        threads = [threading.Thread(target=race, args=(server, number)) for number in range(racers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        names = [f"w{number}" for number in range(racers)]
        until(lambda: not any(server.runs(name) for name in names), "their end")
        assert [server.state(name)["exit_code"] for name in names] == [0] * racers
    for gpu in ("GPU-1", "GPU-2"):
        lines = [line.split() for line in log.read_text().splitlines() if line.split()[1] == gpu]
        for enter, leave in zip(lines[::2], lines[1::2], strict=True):
            assert (enter[0], leave[0], enter[2]) == ("enter", "leave", leave[2])
