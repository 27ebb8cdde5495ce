"""Loops on other hosts: whose GPUs are taken, who never answer, who come back; what nobody may read there."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from tests.contracts.engine_suite import loops_on, planned, wait_for_loops, wait_for_the_end, waiting
from tests.support.mill import Mill, items

from embedmill.engines import SshEngine
from embedmill.planned import PlannedRun
from embedmill.release.runs import work_state
from embedmill.store.credentials import Lending, lent_environment
from embedmill.types import Host, Placement, WorkerState

__all__ = ["planned", "waiting"]
EMBEDMILL = (sys.executable, "-m", "embedmill")
GPU = "GPU-11111111-2222-3333-4444-555555555555"
REACH = """\
#!/bin/sh
# As ssh does: runs a command line. While the file exists, it does what stands there instead.
[ -e "{file}" ] && . "{file}"
exec sh -c "$1"
"""
CANARY = "canary-5f1c9a"
SILENT_S = 60.0


@dataclass
class Server:
    """This machine, reached by a program that can be told to fail as ssh does."""

    folder: Path
    engines: list[SshEngine] = field(default_factory=list)

    @property
    def host(self) -> Host:
        return Host("gpu-01", (str(self.folder / "reach"),), str(self.folder / "holders"))

    def __post_init__(self) -> None:
        program = self.folder / "reach"
        program.write_text(REACH.format(file=self.folder / "trouble"))
        program.chmod(0o755)

    def trouble(self, line: str) -> None:
        (self.folder / "trouble").write_text(line)

    def mend(self) -> None:
        (self.folder / "trouble").unlink()

    def place(self, worker: str = "gpu-01-0", **more: object) -> Placement:
        return Placement(worker, host=self.host, **{"command": EMBEDMILL, **more})  # type: ignore[arg-type]

    def engine(self, **settings: object) -> SshEngine:
        quick = {"every_s": 0.1, "silent_s": SILENT_S, "answer_s": 120.0, "grace_s": 5.0}
        self.engines.append(SshEngine(**{**quick, **settings}))  # type: ignore[arg-type]
        return self.engines[-1]


@dataclass
class Clock:
    """An engine's, which stands still until a test moves it: no host is silent because a machine is slow."""

    now_s: float = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("embedmill.engines.ssh.time", found)
    return found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    for engine in server.engines:
        engine.stop()


def test_a_gpu_that_another_run_holds_is_no_failure(server: Server, waiting: PlannedRun) -> None:
    server.engine().start(waiting.url, [server.place(gpus=(GPU,))])
    wait_for_loops(waiting, 1)
    other = server.engine()
    other.start(waiting.url, [server.place("gpu-01-9", gpus=(GPU,))])
    (state,) = other.states()
    assert state.exit_code == 75
    assert f"gpu-01: {GPU} is taken by" in state.said


def test_two_runs_with_loops_of_one_name_do_not_take_them_for_their_own(
    server: Server, waiting: PlannedRun
) -> None:
    server.engine().start(waiting.url, [server.place()])
    wait_for_loops(waiting, 1)
    other = server.engine()
    other.start(waiting.url + "0", [server.place()])
    (state,) = wait_for_the_end(other)
    assert "no run" in state.said
    assert len(loops_on(waiting)) == 1


def test_a_command_that_is_not_there_is_named(server: Server, planned: PlannedRun) -> None:
    engine = server.engine()
    engine.start(planned.url, [server.place(command=("/no/podman", "run"))])
    assert engine.states() == [WorkerState("gpu-01-0", 126, "gpu-01: /no/podman: no such file or directory")]


def test_a_server_without_python_is_said(server: Server, planned: PlannedRun) -> None:
    server.trouble("echo 'sh: python3: not found' >&2; exit 127")
    engine = server.engine()
    engine.start(planned.url, [server.place()])
    assert engine.states() == [WorkerState("gpu-01-0", 126, "gpu-01: there is no python3")]


@pytest.mark.parametrize("line", ["exit 255", "exec sleep 60"])
def test_a_start_without_an_answer_counts_as_lost_only_after_the_silence(
    server: Server, clock: Clock, planned: PlannedRun, line: str
) -> None:
    server.trouble(line)
    engine = server.engine(answer_s=0.5)
    engine.start(planned.url, [server.place()])
    clock.now_s = SILENT_S
    assert [state.exit_code for state in engine.states()] == [None]
    clock.now_s += 0.1
    (state,) = engine.states()
    assert (state.exit_code, state.said) == (255, "gpu-01 gave no answer for 60 s")


def test_a_loop_of_a_silent_server_is_lost_and_found_running_when_it_is_back(
    server: Server, clock: Clock, waiting: PlannedRun
) -> None:
    engine = server.engine()
    engine.start(waiting.url, [server.place()])
    (loop,) = wait_for_loops(waiting, 1)
    server.trouble("exit 255")
    clock.now_s += SILENT_S + 1
    assert [state.exit_code for state in engine.states()] == [255]
    assert loops_on(waiting) == [loop]
    server.mend()
    engine.start(waiting.url, [server.place()])
    assert [state.exit_code for state in engine.states()] == [None]
    assert wait_for_loops(waiting, 1) == [loop]
    engine.stop()
    assert loops_on(waiting) == []


def test_a_stop_reaches_loops_that_counted_as_lost(server: Server, clock: Clock, waiting: PlannedRun) -> None:
    engine = server.engine()
    engine.start(waiting.url, [server.place()])
    wait_for_loops(waiting, 1)
    server.trouble("exit 255")
    clock.now_s += SILENT_S + 1
    assert [state.exit_code for state in engine.states()] == [255]
    server.mend()
    engine.stop()
    assert loops_on(waiting) == []


def test_a_silence_that_ends_in_time_is_none(server: Server, waiting: PlannedRun) -> None:
    engine = server.engine()
    engine.start(waiting.url, [server.place()])
    server.trouble("exit 255")
    until(time.monotonic() + 1.0, engine)
    server.mend()
    until(time.monotonic() + 3.0, engine)
    assert [state.exit_code for state in engine.states()] == [None]


def test_a_loop_opens_the_store_with_what_it_is_lent_through_stdin(
    server: Server, mill: Mill, seaweed_store_url: str
) -> None:
    mill.settings |= {"store": seaweed_store_url}
    planned = mill.planned(items(6))
    lent = lent_environment(seaweed_store_url, "test", Lending(keys=True))
    bare = (
        "env",
        "-i",
        f"PATH={os.environ['PATH']}",
        f"EMBEDMILL_CACHE={server.folder / 'cache'}",
        *EMBEDMILL,
    )
    engine = server.engine(secrets=lambda: lent)
    engine.start(planned.url, [server.place(command=bare)])
    assert [state.exit_code for state in wait_for_the_end(engine)] == [0]
    assert work_state(planned.home, planned.plan).complete


def test_nobody_can_read_what_is_lent_in_arguments_environments_or_files(
    server: Server, waiting: PlannedRun
) -> None:
    engine = server.engine(secrets=lambda: {"AWS_SECRET_ACCESS_KEY": CANARY})
    engine.start(waiting.url, [server.place()])
    (loop,) = wait_for_loops(waiting, 1)
    wait_until_stdin_is_read(loop)
    seen = [*everything_about_processes(), *everything_in(server.folder), repr(engine.states())]
    assert not [text for text in seen if CANARY in text]
    loop.kill()
    (state,) = wait_for_the_end(engine)
    assert CANARY not in state.said


def test_a_loop_that_is_lent_nonsense_says_so_and_does_not_repeat_it(
    server: Server, planned: PlannedRun
) -> None:
    engine = server.engine(secrets=lambda: {"AWS_SECRET_ACCESS_KEY": [CANARY]})
    engine.start(planned.url, [server.place()])
    (state,) = wait_for_the_end(engine)
    assert state.exit_code == 2
    assert "--environment-stdin: stdin is not one JSON object of texts" in state.said
    assert CANARY not in "".join([*everything_in(server.folder), state.said])


def test_a_loop_whose_keys_have_ended_says_that_others_would_help(
    server: Server, mill: Mill, seaweed_store_url: str
) -> None:
    mill.settings |= {"store": seaweed_store_url}
    planned = mill.planned(items(6))
    lent = lent_environment(seaweed_store_url, "test", Lending(keys=True))
    lent |= {"AWS_SECRET_ACCESS_KEY": CANARY, "AWS_CREDENTIAL_EXPIRATION": "2026-01-01T00:00:00Z"}
    engine = server.engine(secrets=lambda: lent)
    engine.start(planned.url, [server.place()])
    (state,) = wait_for_the_end(engine)
    assert (state.exit_code, CANARY in state.said) == (77, False)
    assert "the credentials have ended (start a worker with new ones)" in state.said


def until(deadline: float, engine: SshEngine) -> None:
    """Ask for states, as a driver does."""
    while time.monotonic() < deadline:
        engine.states()
        time.sleep(0.05)


def wait_until_stdin_is_read(loop: psutil.Process) -> None:
    """The end of its input: then its variables are set."""
    size = len(CANARY)
    deadline = time.monotonic() + 120
    while int(Path(f"/proc/{loop.pid}/fdinfo/0").read_text().split()[1]) <= size:
        assert time.monotonic() < deadline, "the loop does not read its stdin"
        time.sleep(0.05)


def everything_about_processes() -> Iterator[str]:
    """Arguments and environments of all processes but this one and those that started it."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        for name in ("cmdline", "environ"):
            if process.pid not in own:
                try:
                    yield Path(f"/proc/{process.pid}/{name}").read_text(errors="replace")
                except OSError:
                    continue


def everything_in(folder: Path) -> Iterator[str]:
    for file in folder.rglob("*"):
        if stat.S_ISREG(file.lstat().st_mode):
            yield file.read_text(errors="replace")
