"""What became of asking: every way in which ssh, a shell and Python fail has words that say what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from embedmill.errors import SpecError
from embedmill.fleet.asking import members, probe_fleet
from embedmill.fleet.reaching import host_of
from embedmill.spec.fleet import FleetSpec
from embedmill.spec.fleet_reports import ServerProbe

FLEET = FleetSpec.model_validate(
    {
        "servers": {
            "a": None,
            "b": {"address": "me@10.0.0.7", "port": 2222, "options": ["-F", "x"]},
            "c": None,
        },
        "pools": {"old": ["c", "b"]},
        "timeout_s": 120,
        "idle": {"window_s": 0},
    }
)
RUN = 'for last; do :; done; exec sh -c "$last"'
"""An ssh that runs the command here."""


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script that is called instead of ssh."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "ssh"


def write(program: Path, text: str) -> None:
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


def asked(ssh: Path, text: str, name: str = "a", fleet: FleetSpec = FLEET) -> ServerProbe:
    write(ssh, text)
    return probe_fleet(fleet, [name]).servers[0]


@pytest.mark.parametrize(
    ("words", "state", "hint"),
    [
        ("ssh: Could not resolve hostname a: Name or service not known", "unreachable", "`address`"),
        ("ssh: connect to host a port 22: Connection refused", "unreachable", "no sshd listens there"),
        ("ssh: connect to host a port 22: Connection timed out", "unreachable", "is it on"),
        ("ssh: connect to host a port 22: No route to host", "unreachable", "is it on"),
        ("Connection timed out during banner exchange", "timeout", "hangs, or is overloaded"),
        ("kex_exchange_identification: Connection closed by remote host", "unreachable", "MaxStartups"),
        ("me@a: Permission denied (publickey).", "refused", "authorized_keys"),
        ("Host key verification failed.", "refused", "connect by hand once"),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "refused",
            "find out why",
        ),
        ("something new", "unreachable", "something new"),
    ],
)
def test_what_ssh_says_becomes_a_state_and_what_to_do(ssh: Path, words: str, state: str, hint: str) -> None:
    found = asked(ssh, f"echo '{words}' >&2; exit 255")
    assert found.state == state
    assert hint in found.reason


def test_a_server_that_does_not_answer_is_late_after_its_own_time(ssh: Path) -> None:
    found = asked(ssh, "sleep 600", fleet=FLEET.model_copy(update={"timeout_s": 1}))
    assert found.state == "timeout"
    assert found.seconds >= 1


def test_what_a_start_file_of_the_shell_prints_is_no_part_of_the_answer(ssh: Path) -> None:
    found = asked(ssh, f"echo Welcome to gpu-01; echo '{{not ours'; {RUN}")
    assert found.facts is not None
    assert found.facts.hostname == os.uname().nodename


def test_a_server_without_python_is_asked_by_nvidia_smi(ssh: Path) -> None:
    log = (
        "<nvidia_smi_log><driver_version>470.42.01</driver_version><gpu><uuid>GPU-1</uuid>"
        "<product_name>Tesla T4</product_name><compute_mode>Default</compute_mode>"
        "<fb_memory_usage><total>15360 MiB</total><used>3 MiB</used></fb_memory_usage>"
        "<utilization><gpu_util>0 %</gpu_util></utilization><processes></processes></gpu></nvidia_smi_log>"
    )
    found = asked(
        ssh,
        "for last; do :; done; case $last in python3*) exit 127;; esac; "
        f"echo '{log}'; echo 'GPU-1, 7.5'; echo 'pid:[4026531836]'",
    )
    assert found.facts is not None
    assert (found.facts.source, found.facts.driver) == ("nvidia-smi", "470.42.01")
    assert "python3 is not installed there" in found.facts.problems[0]
    assert [gpu.state for gpu in found.gpus] == ["idle"]


def test_a_server_without_python_is_watched_by_its_shell_alone(ssh: Path, tmp_path: Path) -> None:
    """One that is not there in the first look is there in the second: a window sees what a look does not."""
    log = (
        "<nvidia_smi_log><driver_version>470.42.01</driver_version><gpu><uuid>GPU-1</uuid>"
        "<compute_mode>Default</compute_mode><persistence_mode>Enabled</persistence_mode>"
        "<fb_memory_usage><total>15360 MiB</total><used>3 MiB</used></fb_memory_usage>"
        "<utilization><gpu_util>0 %</gpu_util></utilization><processes>$found</processes></gpu>"
        "</nvidia_smi_log>"
    )
    process = "<process_info><pid>7</pid><type>C</type><process_name>train</process_name></process_info>"
    comes = f"[ -e {tmp_path}/looked ] && found='{process}'; touch {tmp_path}/looked"
    write(tmp_path / "readlink", "echo 'pid:[4026531836]'")
    write(ssh, f"for last; do :; done; case $last in python3*) exit 127;; esac; {RUN}")

    def told(first: str) -> ServerProbe:
        write(tmp_path / "nvidia-smi", f'case $1 in -q) {first}; echo "{log}";; *) echo GPU-1, 7.5;; esac')
        fleet = FleetSpec.model_validate({"servers": {"a": None}, "idle": {"window_s": 1}, "timeout_s": 120})
        return probe_fleet(fleet).servers[0]

    busy, idle = told(comes), told("found=")
    assert busy.facts is not None
    assert (busy.facts.window_s, busy.facts.source) == (1.0, "nvidia-smi")
    assert [gpu.reason for gpu in busy.gpus] == ["busy: pid 7 (train) has a context"]
    assert [gpu.state for gpu in idle.gpus] == ["idle"]


def test_a_server_with_neither_python_nor_nvidia_smi_has_no_gpu(ssh: Path) -> None:
    found = asked(ssh, "exit 127")
    assert (found.state, found.reason) == ("no-gpu", "neither python3 nor nvidia-smi is installed there")


def test_an_old_python_is_told(ssh: Path) -> None:
    found = asked(
        ssh,
        "for last; do :; done; case $last in python3*) echo 'SyntaxError: future' >&2; exit 1;; esac; "
        "echo 'NVIDIA-SMI has failed'; exit 9",
    )
    assert (found.state, found.reason) == ("failed", "nvidia-smi: NVIDIA-SMI has failed")


def test_an_old_python_is_not_said_to_be_absent(ssh: Path) -> None:
    found = asked(
        ssh,
        "for last; do :; done; case $last in python3*) echo 'SyntaxError: future' >&2; exit 1;; esac; "
        "exit 127",
    )
    assert (found.state, found.reason) == (
        "failed",
        "python3 is older than 3.8 there, and nvidia-smi is not installed",
    )


def test_an_answer_that_is_none_is_told(ssh: Path) -> None:
    assert "cannot be understood" in asked(ssh, "cat > /dev/null; echo '{}'").reason
    failed = asked(ssh, "cat > /dev/null; echo 'disk is full' >&2; exit 1")
    assert (failed.state, failed.reason) == (
        "failed",
        "the program that was sent there failed: disk is full",
    )


def test_without_ssh_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = probe_fleet(FLEET, ["a"]).servers[0]
    assert (found.state, found.reason) == ("failed", "ssh: no such file or directory")


def test_servers_are_asked_side_by_side(ssh: Path, tmp_path: Path) -> None:
    """None answers before all are asked."""
    all_there = (
        f"touch {tmp_path}/asked-$$; while set -- {tmp_path}/asked-*; [ $# -lt 3 ]; do sleep 0.05; done"
    )
    write(ssh, f"{all_there}; echo 'Connection refused' >&2; exit 255")
    heard: list[str] = []
    found = probe_fleet(FLEET, on_server=lambda each: heard.append(each.server))
    assert {each.state for each in found.servers} == {"unreachable"}
    assert sorted(heard) == ["a", "b", "c"]
    assert [each.server for each in found.servers] == ["a", "b", "c"]


def test_no_more_servers_are_asked_at_once_than_the_spec_says(ssh: Path) -> None:
    write(ssh, "sleep 0.5; echo 'Connection refused' >&2; exit 255")
    assert probe_fleet(FLEET.model_copy(update={"parallel": 1})).seconds >= 1.5


def test_names_stand_for_servers_and_pools() -> None:
    assert members(FLEET, ["old", "b"]) == ["b", "c"]
    with pytest.raises(SpecError, match="no server or pool 'd'"):
        members(FLEET, ["d"])


def test_ssh_gets_what_people_configured_before_what_we_add() -> None:
    reach = host_of("b", FLEET.servers["b"], connect_s=3).reach
    assert reach[0] == "ssh"
    assert reach[-1] == "me@10.0.0.7"
    assert reach.index("x") < reach.index("ConnectTimeout=3")
    assert reach[reach.index("-p") + 1] == "2222"
    assert "BatchMode=yes" in reach


@pytest.mark.parametrize("kind", ["kubernetes", "jenkins"])
def test_a_server_that_no_program_can_be_sent_to_is_left_to_its_engine(kind: str) -> None:
    fleet = FleetSpec.model_validate({"servers": {"k": {"kind": kind}}})
    found = probe_fleet(fleet, window_s=0).servers[0]
    assert found.state == "failed"
    assert f"its engine, {kind}" in found.reason
    with pytest.raises(SpecError):
        host_of("k", fleet.servers["k"])
