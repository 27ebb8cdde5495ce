"""What a container needs of this host's driver: device nodes, and libraries of exactly the driver's version.

The rules are those of the NVIDIA container toolkit (libnvidia-container `src/nvc_info.c`, `pkg/nvcdi`):
libraries are found by the linker's cache and by the version that their names end with, in whatever folder
the driver's package put them; nodes are named by the driver's minor numbers.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.devices.elf import soname

if TYPE_CHECKING:
    from typing import Any

REQUIRED = ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler")
"""Without these nothing computes. The last one compiles PTX; where it lacks, only machine code runs."""
OPTIONAL = (
    "libcudadebugger",
    "libnvidia-allocator",
    "libnvidia-cfg",
    "libnvidia-fatbinaryloader",
    "libnvidia-gpucomp",
    "libnvidia-nvvm",
    "libnvidia-nvvm70",
)
"""Which of these a driver has depends on its age. Nothing for graphics or video is here."""
SHARED_NODES = {
    "/dev/nvidiactl": "nvidia-modprobe -c 0",
    "/dev/nvidia-uvm": "nvidia-modprobe -u -c 0",
    "/dev/nvidia-uvm-tools": "nvidia-modprobe -u -c 0",
}
"""Node that every container needs → the command that makes it, as root."""
LDCONFIG = ("ldconfig", "/sbin/ldconfig", "/usr/sbin/ldconfig")
"""It is often not on the path of those who are not root."""
CAPABILITY = re.compile(r"^(gpu\d+/gi\d+(?:/ci\d+)?)/access (\d+)$", re.MULTILINE)
CACHED = re.compile(r"^\s+(lib(?:cuda|nvidia-)\S*) \(.*\) => (.+)$", re.MULTILINE)


def driver_files(driver: str | None, root: str = "/") -> dict[str, Any]:
    """Nodes, libraries, programs, and what is wrong with them in words; as `DriverFiles` has them.

    `driver`: its version; None where there is none, and nothing is found then. Paths are seen from `root`.
    """
    if driver is None:
        return {"nodes": [], "libraries": [], "programs": [], "capabilities": {}, "problems": []}
    host = _Host(Path(root))
    problems: list[str] = []
    return {
        "nodes": _nodes(host, problems),
        "capabilities": _capabilities(host),
        "libraries": _libraries(host, driver, problems),
        "programs": _programs(host),
        "problems": problems,
    }


class _Host:
    """A host's files, whose paths are seen from its root."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def file(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def has(self, path: str) -> bool:
        return self.file(path).exists()

    def real(self, path: str) -> str:
        """Where links lead."""
        real = self.file(path).resolve()
        return "/" + str(real.relative_to(self.root)) if self.root in real.parents else str(real)

    def list(self, folder: str, pattern: str) -> list[str]:
        return sorted(folder.rstrip("/") + "/" + file.name for file in self.file(folder).glob(pattern))


def _nodes(host: _Host, problems: list[str]) -> list[str]:
    gpus = [path for path in host.list("/dev", "nvidia*") if re.fullmatch(r"/dev/nvidia\d+", path)]
    if not gpus:
        problems.append("no /dev/nvidia0 or the like: as root, nvidia-modprobe -c 0 makes it")
    for path, command in SHARED_NODES.items():
        if not host.has(path):
            problems.append(path + " is absent: as root, " + command + " makes it")
    gpus.sort(key=lambda path: int(path[len("/dev/nvidia") :]))
    return gpus + [path for path in SHARED_NODES if host.has(path)]


def _capabilities(host: _Host) -> dict[str, str]:
    """Slice of a GPU in MIG mode, such as gpu0/gi1/ci0 (by minor number) → the node that opens it."""
    try:
        listed = CAPABILITY.findall(host.file("/proc/driver/nvidia-caps/mig-minors").read_text())
    except OSError:
        return {}
    nodes = {name: "/dev/nvidia-caps/nvidia-cap" + minor for name, minor in listed}
    return {name: path for name, path in nodes.items() if host.has(path)}


def _libraries(host: _Host, driver: str, problems: list[str]) -> list[dict[str, str]]:
    cached = _linker_cache(host, problems)
    suffix = ".so." + driver
    real = [path for path in map(host.real, cached) if path.endswith(suffix)]
    found: dict[str, dict[str, str]] = {}
    for folder in dict.fromkeys(str(Path(path).parent) for path in real):
        for path in host.list(folder, "lib*" + suffix):
            library = _library(host, path, suffix)
            if library is not None:
                found.setdefault(Path(path).name, library)
    for stem in REQUIRED:
        if stem + suffix not in found:
            problems.append(_lacking(host, stem, driver, cached))
    return [found[name] for name in sorted(found)]


def _library(host: _Host, path: str, suffix: str) -> dict[str, str] | None:
    """None for what is not needed, and for libraries of 32 bits, which have the same names."""
    stem = Path(path).name[: -len(suffix)]
    if stem not in REQUIRED + OPTIONAL:
        return None
    try:
        name = soname(host.file(path))
    except (OSError, ValueError):
        return None
    return {"path": path, "soname": name or stem + ".so.1"}


def _lacking(host: _Host, stem: str, driver: str, cached: list[str]) -> str:
    """What is said of a library that is not there in this version; in another one after an upgrade."""
    others = [host.real(path) for path in cached if Path(path).name.startswith(stem + ".so")]
    versions = [path.split(".so.")[-1] for path in others if re.search(r"\.so\.\d+\.\d", path)]
    if not versions:
        return "no " + stem + ".so." + driver + ": the driver is installed without it"
    return stem + " is of " + versions[0] + " and the kernel's module of " + driver + ": reboot the server"


def _linker_cache(host: _Host, problems: list[str]) -> list[str]:
    """Paths of libraries of the driver, as the linker would find them."""
    environment = dict(os.environ, LC_ALL="C")
    for program in LDCONFIG:
        command = [program, "-p", "-C", str(host.file("/etc/ld.so.cache"))]
        try:
            done = subprocess.run(command, capture_output=True, env=environment, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return [path for _, path in CACHED.findall(done.stdout.decode("utf-8", "replace"))]
    problems.append("the linker's cache cannot be read (ldconfig -p), so no library of the driver is found")
    return []


def _programs(host: _Host) -> list[str]:
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        path = folder + "/nvidia-smi"
        if folder.startswith("/") and os.access(host.file(path), os.X_OK):
            return [host.real(path)]
    return []
