"""What starts containers on a host, by what podman and docker say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embedmill.devices import commands, tools

INFO = {
    "ServerVersion": "27.3.1",
    "Runtimes": {"runc": {"path": "runc"}, "nvidia": {"path": "nvidia-container-runtime"}},
    "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"],
}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH, but for a shell's."""
    (tmp_path / "bin").mkdir()
    for name in ("cat", "sh"):
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")
    monkeypatch.setattr(commands, "PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(tools, "CDI_FILES", (f"{tmp_path}/cdi/*",))
    return tmp_path / "bin"


def script(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def docker(folder: Path, **changes: object) -> None:
    (folder / "info.json").write_text(json.dumps({**INFO, **changes}))
    script(folder, "docker", f"cat {folder}/info.json")


def test_a_host_without_either_has_no_tool_and_no_problem(programs: Path) -> None:
    assert tools.container_tools() == ([], [])


def test_podman_comes_first_with_the_runtimes_that_are_installed(programs: Path) -> None:
    docker(programs)
    script(programs, "podman", "echo podman version 4.3.1")
    script(programs, "runc", "exit 0")
    (podman, other), problems = tools.container_tools()
    assert problems == []
    assert (podman["name"], podman["version"], podman["runtimes"]) == ("podman", "4.3.1", ["runc"])
    assert podman["nvidia"] is False
    assert (other["name"], other["version"], other["rootless"]) == ("docker", "27.3.1", True)


def test_docker_is_served_by_its_runtime_or_as_cdi_says_where_it_reads_that(programs: Path) -> None:
    docker(programs)
    assert tools.container_tools()[0][0]["nvidia"]
    docker(programs, Runtimes={"runc": {}})
    assert not tools.container_tools()[0][0]["nvidia"]
    (programs.parent / "cdi").mkdir()
    (programs.parent / "cdi" / "nvidia.yaml").write_text("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n")
    assert not tools.container_tools()[0][0]["nvidia"]
    docker(programs, Runtimes={"runc": {}}, ServerVersion="28.0.1")
    assert tools.container_tools()[0][0]["nvidia"]


@pytest.mark.parametrize(
    ("content", "serves"),
    [
        ('{"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "devices": []}', True),
        ("kind: vendor.com/nic\n", False),
    ],
)
def test_a_description_of_devices_counts_if_it_is_of_nvidia_gpus(
    programs: Path, content: str, serves: bool
) -> None:
    (programs.parent / "cdi").mkdir()
    (programs.parent / "cdi" / "a.json").write_text(content)
    assert tools.has_cdi() == serves


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("permission denied while trying to connect", "who is not in the group docker"),
        ("Cannot connect to the Docker daemon", "gives no answer: Cannot connect"),
    ],
)
def test_a_daemon_that_does_not_answer_is_no_tool_but_a_problem(
    programs: Path, words: str, problem: str
) -> None:
    script(programs, "docker", f"echo '{words}' >&2; exit 1")
    found, [said] = tools.container_tools()
    assert found == []
    assert said.startswith("docker: ")
    assert problem in said


def test_a_client_that_tells_of_its_daemon_in_json_is_understood(programs: Path) -> None:
    said = {"ServerErrors": ["permission denied while trying to connect to the API"], "ClientInfo": {}}
    (programs / "info.json").write_text(json.dumps(said))
    script(programs, "docker", f"cat {programs}/info.json; echo 'errors pretty printing info' >&2; exit 1")
    assert "who is not in the group docker" in tools.container_tools()[1][0]
