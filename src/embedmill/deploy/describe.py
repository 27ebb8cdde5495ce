"""Says what is in an image: its packages with their sizes, and for which GPUs there is code in a library.

This file is copied into the folder that an image is built from, and runs there with the image's Python; so it
imports the standard library alone.

    python describe.py --code PACKAGE [--cuda 12.9] [--sass "7.5 8.0"] [--ptx 9.0] > sbom.cdx.json

It prints a CycloneDX document. With `--code`, it fails where the package's machine code (SASS), PTX or CUDA
is not what is said: whoever chooses images by those figures must be able to trust them.
"""

from __future__ import annotations

import argparse
import json
import mmap
import struct
import sys
from collections import Counter
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

MAGIC = struct.pack("<I", 0xBA55ED50)
PTX, SASS = 1, 2
MOST = 0.5
"""Code counts for a GPU that so many of the kernels have, compared with the one that most have it for."""
CUDA_PACKAGES = ("nvidia-cuda-runtime-cu", "nvidia-cuda-runtime")
DPKG = Path("/var/lib/dpkg/status")
SIZE = "embedmill:size_bytes"


def code_in(path: Path) -> tuple[Counter[str], Counter[str]]:
    """For which compute capabilities a library has machine code and PTX, each with the number of its parts.

    The layout of fat binaries is that of CUDA's `fatbinary_section.h`, and of what cuobjdump shows: a head of
    16 bytes, then parts, each with a head that says its kind, sizes and compute capability.
    """
    sass: Counter[str] = Counter()
    ptx: Counter[str] = Counter()
    if path.stat().st_size == 0:
        return sass, ptx
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        begin = data.find(MAGIC)
        while begin >= 0:
            for kind, capability in _parts(data, begin):
                (sass if kind == SASS else ptx)[capability] += 1
            begin = data.find(MAGIC, begin + 4)
    return sass, ptx


def _parts(data: mmap.mmap, begin: int) -> list[tuple[int, str]]:
    """(kind, compute capability) of each part of one fat binary; none where it only looks like one."""
    if begin + 16 > len(data):
        return []
    version, head, size = struct.unpack_from("<HHQ", data, begin + 4)
    end = begin + head + size
    if version != 1 or head != 16 or end > len(data):
        return []
    found, place = [], begin + head
    while place + 32 <= end:
        kind, _, length, payload = struct.unpack_from("<HHIQ", data, place)
        (capability,) = struct.unpack_from("<I", data, place + 28)
        if kind in (PTX, SASS):
            found.append((kind, f"{capability // 10}.{capability % 10}"))
        if length < 32:
            break
        place += length + payload
    return found


def mostly(counts: Counter[str], most: int) -> list[str]:
    """Those that most of `most` kernels have code for; a few kernels are made for some GPUs alone."""
    found = [capability for capability, count in counts.items() if count >= most * MOST]
    return sorted(found, key=lambda capability: tuple(map(int, capability.split("."))))


def code_of(package: Distribution) -> tuple[list[str], list[str]]:
    """Compute capabilities that a package's libraries have machine code and PTX for."""
    sass: Counter[str] = Counter()
    ptx: Counter[str] = Counter()
    for file in package.files or ():
        path = Path(str(package.locate_file(file)))
        if ".so" in path.name and path.is_file():
            for total, found in zip((sass, ptx), code_in(path), strict=True):
                total.update(found)
    most = max([*sass.values(), *ptx.values()], default=0)
    return mostly(sass, most), mostly(ptx, most)


def cuda_of(packages: list[Distribution]) -> str | None:
    """The CUDA toolkit among packages, as major.minor."""
    for package in packages:
        if str(package.metadata["Name"]).startswith(CUDA_PACKAGES):
            return ".".join(package.version.split(".")[:2])
    return None


def python_components(packages: list[Distribution]) -> list[dict[str, Any]]:
    """Each package of Python, with the size of its files."""
    found = []
    for package in packages:
        paths = [Path(str(package.locate_file(file))) for file in package.files or ()]
        size = sum(path.lstat().st_size for path in paths if path.is_file())
        name = package.metadata["Name"]
        found.append(_component("pypi", name, package.version, size))
    return found


def debian_components(status: Path = DPKG) -> list[dict[str, Any]]:
    """Each package of Debian or Ubuntu in the base; none where it is something else."""
    found = []
    for entry in status.read_text("utf-8").split("\n\n") if status.is_file() else ():
        lines = [line.split(": ", 1) for line in entry.splitlines() if line[:1] != " "]
        values = {line[0]: line[1] for line in lines if len(line) == 2}
        if values.get("Status", "").endswith(" installed"):
            size = 1024 * int(values.get("Installed-Size", 0))
            found.append(_component("deb/debian", values["Package"], values["Version"], size))
    return found


def _component(kind: str, name: str, version: str, size: int) -> dict[str, Any]:
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:{kind}/{name}@{version}",
        "properties": [{"name": SIZE, "value": str(size)}],
    }


def sbom(packages: list[Distribution], status: Path = DPKG) -> dict[str, Any]:
    """A CycloneDX document; equal images have equal ones, so it has no time and no serial number."""
    components = python_components(packages) + debian_components(status)
    components.sort(key=lambda component: component["purl"])
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components}


def differences(arguments: argparse.Namespace, packages: list[Distribution]) -> list[str]:
    """What is said of CUDA and code, and is not so."""
    package = next(each for each in packages if each.metadata["Name"] == arguments.code)
    sass, ptx = code_of(package)
    found = {"sass": " ".join(sass), "ptx": " ".join(ptx), "cuda": cuda_of(packages) or ""}
    said = {name: getattr(arguments, name) for name in found}
    return [
        f"--{name} says {said[name]!r}, and in {arguments.code} {package.version} it is {value!r}"
        for name, value in found.items()
        if value != said[name]
    ]


def main() -> int:
    """Print the document, or what is not as it was said."""
    parser = argparse.ArgumentParser(description="What is in this image?")
    parser.add_argument("--code", default="", metavar="PACKAGE")
    for name in ("cuda", "sass", "ptx"):
        parser.add_argument(f"--{name}", default="")
    arguments = parser.parse_args()
    packages = list(distributions())
    wrong = differences(arguments, packages) if arguments.code else []
    if wrong:
        sys.stderr.write("\n".join(wrong) + "\n")
        return 1
    json.dump(sbom(packages), sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
