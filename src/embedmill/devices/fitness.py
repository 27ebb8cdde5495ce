"""What a host lacks for being lent work: one JSON object on stdout, which `fleet doctor` makes sense of.

stdin has `{"folder": "/var/tmp/embedmill"}`. Nothing is written, there or elsewhere.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import sys
import time
from typing import Any

from embedmill.devices.commands import Said, found, said

PROGRAMS = ("crun", "docker", "newuidmap", "nvidia-ctk", "nvidia-modprobe", "podman", "runc")


def main() -> int:
    """Print what was found."""
    folder = json.loads(sys.stdin.buffer.read())["folder"]
    user = _user()
    podman = _podman_info()
    report = {
        "time": time.time(),
        "user": user,
        "groups": _groups(),
        "programs": [name for name in PROGRAMS if found(name)],
        "folder_problem": _folder_problem(folder),
        "podman_problem": "" if podman is None or podman.code == 0 else podman.last_line,
        "images": _images(podman),
        "subordinate_ids": os.geteuid() == 0 or _has_subordinate_ids(user),
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _groups() -> list[str]:
    names = []
    for number in {*os.getgroups(), os.getegid()}:
        try:
            names.append(grp.getgrgid(number).gr_name)
        except KeyError:
            names.append(str(number))
    return sorted(names)


def _folder_problem(folder: str) -> str:
    """Why locks cannot be taken there; empty if they can, also where the folder is yet to be made."""
    there = os.path.join(folder, "locks")
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        return f"{there}: is no folder"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"{there}: may not be written"


def _images(podman: Said | None) -> dict[str, Any]:
    """Where images go, as far as that is known without asking a daemon, and how many bytes are free."""
    folder = "/var/lib/docker" if found("docker") else "/var/lib/containers"
    if podman is not None and podman.code == 0:
        folder = podman.out.strip() or folder  # what goes by the name of podman may tell nothing
    there = os.path.abspath(folder)
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    space = os.statvfs(there)
    return {"folder": folder, "free_bytes": space.f_bavail * space.f_frsize}


def _podman_info() -> Said | None:
    """What podman says of its store; it fails where it could start no container either."""
    if found("podman") is None:
        return None
    return said("podman", "info", "--format", "{{.Store.GraphRoot}}", timeout_s=10.0)


def _has_subordinate_ids(user: str) -> bool:
    """Without a range of them, podman cannot make a container for a user who is not root."""
    try:
        with open("/etc/subuid", encoding="utf-8") as file:
            return any(line.split(":")[0] in (user, str(os.geteuid())) for line in file)
    except OSError:
        return False
