"""What starts containers on this host, and whether NVIDIA's toolkit serves it."""

from __future__ import annotations

import glob
import json
import os
import re
from typing import Any

from embedmill.devices.commands import found, said

RUNTIMES = ("crun", "runc")
CDI_FILES = ("/etc/cdi/*", "/var/run/cdi/*")
CDI_KIND = re.compile(r"""["']?kind["']?\s*:\s*["']?nvidia\.com/gpu\b""")
DOCKER_WITH_CDI = 28
"""Its first version that reads CDI without being told to."""


def container_tools() -> tuple[list[dict[str, Any]], list[str]]:
    """`podman`, then `docker`, as `ContainerTool` has them; and what is wrong with those that do not work."""
    tools, problems = [], []
    for make in (_podman, _docker):
        tool, problem = make()
        tools += [tool] if tool else []
        problems += [problem] if problem else []
    return tools, problems


def _podman() -> tuple[dict[str, Any] | None, str]:
    if found("podman") is None:
        return None, ""
    answer = said("podman", "--version")
    if answer.code != 0:
        return None, f"podman: {answer.last_line}"
    return {
        "name": "podman",
        "version": answer.out.split()[-1],
        "runtimes": [name for name in RUNTIMES if found(name)],
        "rootless": os.geteuid() != 0,
        "nvidia": has_cdi(),
    }, ""


def _docker() -> tuple[dict[str, Any] | None, str]:
    if found("docker") is None:
        return None, ""
    answer = said("docker", "info", "--format", "{{json .}}")
    try:
        info = json.loads(answer.out)
        version, errors = info.get("ServerVersion") or "", info.get("ServerErrors") or []
    except (ValueError, AttributeError):
        version, errors = "", []
    if not version:
        return None, f"docker: {_why_no_daemon('; '.join(errors) or answer.last_line)}"
    runtimes = sorted(info.get("Runtimes") or {})
    return {
        "name": "docker",
        "version": version,
        "runtimes": runtimes,
        "rootless": any("rootless" in each for each in info.get("SecurityOptions") or ()),
        "nvidia": "nvidia" in runtimes or (has_cdi() and _major(version) >= DOCKER_WITH_CDI),
    }, ""


def _why_no_daemon(words: str) -> str:
    if "permission denied" in words.lower():
        return "its daemon refuses this user, who is not in the group docker"
    return f"its daemon gives no answer: {words}"


def has_cdi() -> bool:
    """Whether `nvidia-ctk cdi generate` has described the GPUs."""
    for file in (each for pattern in CDI_FILES for each in glob.glob(pattern)):
        try:
            with open(file, encoding="utf-8", errors="replace") as opened:
                if CDI_KIND.search(opened.read(1 << 16)):
                    return True
        except OSError:
            continue
    return False


def _major(version: str) -> int:
    first = version.split(".")[0]
    return int(first) if first.isdigit() else 0
