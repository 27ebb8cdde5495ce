"""What a server lacks for being lent work, and the command that mends it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from embedmill.devices.reach import run_there
from embedmill.fleet.asking import answered, facts_of, with_window
from embedmill.fleet.reaching import Silence, host_of
from embedmill.spec.reports import DoctorReport, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedmill.spec.fleet import FleetSpec
    from embedmill.spec.host import ContainerTool, HostFacts

SKEW_S = 30.0
"""Beyond this, requests of object stores that are signed by the clock come near to being refused."""
START = "as root: systemctl start docker"
INSTALL_PYTHON = "as root: apt-get install python3"
ROOMY = 20_000_000_000
"""Bytes: an image with CUDA has about ten."""


def examine(spec: FleetSpec, name: str) -> DoctorReport:
    """Look at one server, once.

    Raises:
        SpecError: No program can be sent to a server of its kind.
    """
    host_of(name, spec.servers[name])
    facts = facts_of(with_window(spec, 0), name)
    if isinstance(facts, Silence):
        found = list(_of_silence(facts))
    else:
        found = [*_of_host(facts), *_of_driver(facts)]
        if facts.python is not None:
            found += _of_containers(facts, examined := _examined(spec, name))
            found += _of_folder(spec, name, examined)
    return DoctorReport(ok=all(each.state != "fail" for each in found), findings=tuple(found))


def _finding(check: str, state: str, found: str, hint: str = "") -> Finding:
    return Finding.model_validate({"check": check, "state": state, "found": found, "hint": hint})


def _examined(spec: FleetSpec, name: str) -> dict[str, Any]:
    """What `devices/fitness.py` found; `skew_s`: by how much its clock is ahead of ours."""
    host = host_of(name, spec.servers[name])
    data = json.dumps({"folder": host.folder}).encode()
    begun = time.time()
    answer = run_there(host.reach, "fitness", data=data, timeout_s=spec.timeout_s)
    ended = time.time()
    line = answered(answer)
    if line is None:
        return {"problem": answer.last_line or f"no answer in {spec.timeout_s:.0f} s"}
    found: dict[str, Any] = json.loads(line)
    late_s, early_s = found["time"] - ended, found["time"] - begun
    return {**found, "skew_s": late_s if late_s > 0 else min(early_s, 0.0)}


def _of_silence(silence: Silence) -> Iterator[Finding]:
    if silence.lacks_python:
        yield _finding("reach", "ok", "it lets you in")
        yield _finding("python3", "fail", silence.reason, INSTALL_PYTHON)
    else:
        yield _finding("reach", "fail", silence.reason)


def _of_host(facts: HostFacts) -> Iterator[Finding]:
    memory = f", {facts.memory_bytes / 1e9:.0f} GB of memory" if facts.memory_bytes else ""
    cores = f", {facts.cores} cores" if facts.cores else ""
    yield _finding("reach", "ok", f"{facts.hostname}{cores}{memory}")
    if facts.python is None:
        found = next(iter(facts.problems), "no python3")
        yield _finding("python3", "fail", found, INSTALL_PYTHON)
    else:
        yield _finding("python3", "ok", facts.python)
    if facts.namespaced:
        hint = "ask the host itself, or start the container with --pid=host"
        yield _finding("processes", "fail", "pids are those of a container: nobody else can be seen", hint)


def _of_driver(facts: HostFacts) -> Iterator[Finding]:
    problems = [each for each in facts.problems if each.startswith(("driver: ", "GPU "))]
    for problem in problems:
        found, _, hint = problem.partition("; ")
        yield _finding("driver", "fail", found.removeprefix("driver: "), hint)
    if facts.driver is None:
        yield _finding("driver", "fail", "none is loaded", "install NVIDIA's driver for data centres")
    elif not problems:
        cuda = ".".join(map(str, facts.cuda or ()))
        yield _finding("driver", "ok", f"{facts.driver}, for CUDA up to {cuda or 'an unknown version'}")
    yield from _of_gpus(facts)
    for problem in facts.driver_files.problems:
        found, _, hint = problem.partition(": ")
        yield _finding("driver files", "fail", found, hint)


def _of_gpus(facts: HostFacts) -> Iterator[Finding]:
    if not facts.gpus:
        yield _finding("GPUs", "fail", "none")
        return
    names = [gpu.name for gpu in facts.gpus]
    kinds = ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names))
    yield _finding("GPUs", "ok", kinds)
    cold = [str(gpu.index) for gpu in facts.gpus if gpu.persistence is False]
    if cold:
        found = f"off on GPU {', '.join(cold)}: every first look starts the driver, which looks like work"
        hint = "as root: nvidia-smi -pm 1, or enable nvidia-persistenced"
        yield _finding("persistence", "warn", found, hint)
    if all(gpu.health.xids is None for gpu in facts.gpus):
        found = "the kernel's log may not be read: Xid events stay unseen"
        yield _finding("kernel log", "warn", found, "as root: usermod -aG adm,systemd-journal USER")


def _of_containers(facts: HostFacts, examined: dict[str, Any]) -> Iterator[Finding]:
    if "problem" in examined:
        yield _finding("look", "fail", examined["problem"])
        return
    user = examined["user"]
    for tool in facts.tools:
        yield _of_tool(tool, examined)
    lacking = [each for each in facts.problems if each.startswith(("docker: ", "podman: "))]
    for problem in lacking:
        hint = f"as root: usermod -aG docker {user}" if "group docker" in problem else START
        yield _finding("containers", "warn" if facts.tools else "fail", problem, hint)
    if not facts.tools and not lacking:
        hint = "as root: apt-get install --no-install-recommends podman runc"
        yield _finding("containers", "fail", "neither podman nor docker is installed", hint)


def _of_tool(tool: ContainerTool, examined: dict[str, Any]) -> Finding:
    served = "served by NVIDIA's toolkit" if tool.nvidia else "without NVIDIA's toolkit, which is not needed"
    named = f"{tool.name} {tool.version}"
    if not tool.runtimes:
        return _finding(
            "containers", "fail", f"{named}: neither runc nor crun", "as root: apt-get install runc"
        )
    if tool.name == "podman" and tool.rootless and not examined["subordinate_ids"]:
        user = examined["user"]
        hint = f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
        return _finding("containers", "fail", f"{named}: {user} has no subordinate ids", hint)
    if tool.name == "podman" and examined["podman_problem"]:
        return _finding("containers", "fail", f"{named}: {examined['podman_problem']}", "try: podman info")
    rootless = ", without root" if tool.rootless else ""
    return _finding("containers", "ok", f"{named}{rootless}, with {', '.join(tool.runtimes)}; {served}")


def _of_folder(spec: FleetSpec, name: str, examined: dict[str, Any]) -> Iterator[Finding]:
    if "problem" in examined:
        return
    folder = spec.servers[name].folder
    if examined["folder_problem"]:
        hint = f"as root: install -d -m 1777 {folder} {folder}/locks"
        yield _finding("locks", "fail", examined["folder_problem"], hint)
    else:
        yield _finding("locks", "ok", f"{folder}: can be written")
    skew_s = examined["skew_s"]
    if abs(skew_s) > SKEW_S:
        ahead = "ahead of" if skew_s > 0 else "behind"
        found = f"{abs(skew_s):.0f} s {ahead} the one here"
        yield _finding("clock", "warn", found, "as root: timedatectl set-ntp true")
    else:
        yield _finding("clock", "ok", "as here")
    images = examined["images"]
    free = f"{images['folder']}: {images['free_bytes'] / 1e9:.0f} GB free"
    roomy = images["free_bytes"] >= ROOMY
    hint = "" if roomy else "images with CUDA take about 10 GB each: free some, or move the store of images"
    yield _finding("space", "ok" if roomy else "warn", free, hint)
