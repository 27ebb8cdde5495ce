"""`fleet probe`, `fleet watch` and `fleet doctor` as people and programs see them, on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.cli.terminal import Terminal, command_line, run_on_a_terminal

from embedmill.cli.fleet_tables import problems_of, rows_of, summary, table_of
from embedmill.spec.fleet_reports import FleetProbe, GpuVerdict, ServerProbe
from embedmill.spec.host import HostFacts

FLEET = """\
servers:
  here: {kind: local}
  other: {kind: kubernetes}
timeout_s: 20
idle: {window_s: 0}
"""
GIB = 1 << 30


@pytest.fixture(autouse=True)
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "fleet.yaml").write_text(FLEET)
    return tmp_path / "fleet.yaml"


def verdict(state: str, reason: str, index: int = 0) -> GpuVerdict:
    return GpuVerdict.model_validate(
        {
            "server": "gpu-01",
            "index": index,
            "uuid": f"GPU-{index}",
            "name": "NVIDIA A100-SXM4-40GB",
            "state": state,
            "reason": reason,
            "memory_bytes": 40 * GIB,
            "used_bytes": 38 * GIB,
        }
    )


def a_probe(*problems: str) -> FleetProbe:
    facts = HostFacts(hostname="x", taken="", window_s=0, source="nvml", problems=problems)
    gpus = (
        verdict("busy", "busy: pid 4242 (python, alice) holds 37.2 GiB"),
        verdict("idle", "idle for 120 s", 1),
    )
    late = "no answer in 30 s: it hangs, or is overloaded"
    servers = (
        ServerProbe(server="gpu-01", state="ok", reason="", seconds=1, facts=facts, gpus=gpus),
        ServerProbe(server="gpu-02", state="timeout", reason=late, seconds=30),
        ServerProbe(server="gpu-03", state="ok", reason="", seconds=1, facts=facts),
    )
    return FleetProbe(taken="2026-11-28T04:00:00Z", seconds=30, servers=servers)


def printed(probe: FleetProbe, width: int) -> str:
    from io import StringIO

    from rich.console import Console

    out = StringIO()
    Console(file=out, width=width, markup=False, highlight=False).print(table_of(probe, width))
    return out.getvalue()


def test_this_machine_is_probed_without_ssh(embedmill: Terminal) -> None:
    found = embedmill.json("fleet", "probe", "here")
    assert found["schema"] == "fleet-probe/1"
    [server] = found["servers"]
    assert server["facts"]["cores"]
    assert server["seconds"] < 20


def test_it_is_a_failure_if_no_server_answers(embedmill: Terminal) -> None:
    said = embedmill("fleet", "probe", "other")
    assert said.code == 1
    assert "its engine, kubernetes" in said.out


def test_a_name_that_is_none_is_an_error_that_names_the_others(embedmill: Terminal) -> None:
    said = embedmill("fleet", "probe", "gpu-99")
    assert (said.code, said.out) == (2, "")
    assert "no server or pool 'gpu-99'" in said.err
    assert "here, other" in said.err


def test_without_a_terminal_a_look_is_lines_that_begin_with_the_time(embedmill: Terminal) -> None:
    said = embedmill("fleet", "watch", "other", "--window", "0", "--looks", "2")
    lines = said.out.splitlines()
    assert said.code == 0
    assert len(lines) == 2
    assert all(line.startswith("20") and " other failed " in line for line in lines)


def test_on_a_terminal_the_table_is_painted_in_place() -> None:
    said = run_on_a_terminal("fleet", "watch", "other", "--window", "0", "--looks", "2")
    assert "0 of 0 GPUs idle, 0 of 1 servers answered" in said
    assert "\x1b[1A" in said, "the second look goes up over the first one"


def test_ctrl_c_is_how_watching_ends() -> None:
    command = command_line("fleet", "watch", "other", "--window", "0")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (0, b"")


def test_who_interrupts_a_probe_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("servers: {late: , later: }\nparallel: 1\n")
    (tmp_path / "ssh").write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/pids\nexec sleep 300\n")
    (tmp_path / "ssh").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with subprocess.Popen(command_line("fleet", "probe"), env=environment) as process:
        pids = tmp_path / "pids"
        deadline = time.monotonic() + 120
        while not (pids.exists() and pids.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
    [pid] = pids.read_text().split()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_looks_are_documents_of_a_line_each_for_programs(embedmill: Terminal) -> None:
    said = embedmill("fleet", "watch", "other", "--window", "0", "--looks", "2", "--json")
    looks = [json.loads(line) for line in said.out.splitlines()]
    assert [each["schema"] for each in looks] == ["fleet-probe/1"] * 2


def test_a_wide_table_has_states_and_reasons_in_columns_of_their_own() -> None:
    lines = [line.rstrip() for line in printed(a_probe(), 160).splitlines()]
    assert lines[0].split() == ["server", "gpu", "type", "memory", "state", "reason"]
    assert lines[2].endswith("38.0/40 GiB   busy      pid 4242 (python, alice) holds 37.2 GiB")
    assert "timeout   no answer in 30 s" in lines[4]


def test_slices_of_a_gpu_are_told_apart_by_what_their_workers_are_called() -> None:
    slices = [
        verdict("idle", "idle").model_copy(update={"uuid": f"MIG-{letter * 8}-0000"}) for letter in "ab"
    ]
    server = ServerProbe(
        server="gpu-01", state="ok", reason="", seconds=1, gpus=(*slices, verdict("unfit", ""))
    )
    probe = FleetProbe(taken="2026-11-28T04:00:00Z", seconds=1, servers=(server,))
    assert [row[1] for row in rows_of(probe)] == ["0-aaaaaaaa", "0-bbbbbbbb", "0"]


def test_a_narrow_table_keeps_every_word() -> None:
    text = printed(a_probe(), 80)
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    for expected in ("busy: pid 4242", "holds 37.2 GiB", "timeout: no answer", "38.0/40 GiB"):
        assert expected in words


@pytest.mark.parametrize("width", [80, 160])
def test_what_servers_say_cannot_steer_the_terminal(width: int) -> None:
    evil = "busy: pid 1 (\x1b]0;x\x07[red]py\nthon) holds 1 GiB"
    probe = a_probe().model_copy(
        update={"servers": (a_probe().servers[0].model_copy(update={"gpus": (verdict("busy", evil),)}),)}
    )
    assert not {"\x1b", "\x07"} & set(printed(probe, width))
    assert "[red]" in printed(probe, width)
    assert problems_of(a_probe("a\x1b[2Jb")) == ["gpu-01, gpu-03: a\N{REPLACEMENT CHARACTER}[2Jb"]


def test_equal_problems_are_told_once() -> None:
    assert problems_of(a_probe("Slurm: no answer")) == ["gpu-01, gpu-03: Slurm: no answer"]


def test_a_look_is_summed_up() -> None:
    said = "1 of 2 GPUs idle, 2 of 3 servers answered, in 30 s"
    assert summary(a_probe()) == f"2026-11-28T04:00:00Z: {said}"


def test_doctor_names_what_lacks_and_what_mends_it(embedmill: Terminal) -> None:
    said = embedmill("fleet", "doctor", "here", "--json")
    findings = {each["check"]: each for each in said.json["findings"]}
    assert said.json["schema"] == "doctor/1"
    assert findings["python3"]["state"] == "ok"
    assert {"reach", "driver", "GPUs", "containers", "locks", "clock", "space"} <= set(findings)
    assert all(each["hint"] or each["state"] == "ok" for each in findings.values() if each["check"] != "GPUs")
    assert said.code == (0 if said.json["ok"] else 1)
