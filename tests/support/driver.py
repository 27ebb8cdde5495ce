"""A host's NVIDIA driver as files: libraries that are real ELF files without code, and the linker's cache."""

from __future__ import annotations

import platform
import struct
from collections.abc import Mapping
from pathlib import Path

DRIVER = "535.183.01"
SONAMES = {
    "libcuda": "libcuda.so.1",
    "libnvidia-ml": "libnvidia-ml.so.1",
    "libnvidia-ptxjitcompiler": "libnvidia-ptxjitcompiler.so.1",
    "libnvidia-gpucomp": f"libnvidia-gpucomp.so.{DRIVER}",
    "libnvidia-glcore": f"libnvidia-glcore.so.{DRIVER}",
}
"""As the driver has them: some are loaded by their whole name. The last one is for graphics."""
NODES = ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")


def elf(soname: str | None, *, bits: int = 64) -> bytes:
    """A library with a name, or without one, and nothing else: headers, names, the dynamic section."""
    names = b"\0" + (soname or "").encode() + b"\0"
    offset = 64 + 2 * 56
    dynamic = offset + len(names) + -len(names) % 8
    entries = [(5, offset), *([(14, 1)] if soname else []), (0, 0)]
    section = b"".join(struct.pack("<qQ", *entry) for entry in entries)
    size = dynamic + len(section)
    machine = {"x86_64": 62, "aarch64": 183}[platform.machine()]
    head = b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, size, size, 4096)
    dynamics = struct.pack("<IIQQQQQQ", 2, 4, dynamic, dynamic, dynamic, len(section), len(section), 8)
    return (head + load + dynamics + names).ljust(dynamic, b"\0") + section


def linker_cache(paths: Mapping[str, str]) -> bytes:
    """What ldconfig writes to /etc/ld.so.cache (glibc, `sysdeps/generic/dl-cache.h`): name → path."""
    flags = {"x86_64": 0x0303, "aarch64": 0x0A03}[platform.machine()]
    begin = 48 + 24 * len(paths)
    strings, entries = b"", b""
    for name, path in paths.items():
        key = begin + len(strings)
        strings += name.encode() + b"\0"
        entries += struct.pack("<iIIIQ", flags, key, begin + len(strings), 0, 0)
        strings += path.encode() + b"\0"
    head = b"glibc-ld.so.cache1.1" + struct.pack("<IIB3xI12x", len(paths), len(strings), 0, 0)
    return head + entries + strings


def a_host(root: Path, *, version: str = DRIVER, folder: str = "/usr/lib/somewhere") -> Path:
    """A root with a driver's libraries, nodes and nvidia-smi, as its packages leave them."""
    libraries = root / folder.lstrip("/")
    libraries.mkdir(parents=True)
    cached = {}
    for stem, soname in SONAMES.items():
        file = libraries / f"{stem}.so.{version}"
        file.write_bytes(elf(soname.replace(DRIVER, version)))
        if soname.endswith(".so.1"):
            (libraries / soname).symlink_to(file.name)
            cached[soname] = f"{folder}/{soname}"
    (root / "etc").mkdir()
    (root / "etc" / "ld.so.cache").write_bytes(linker_cache(cached))
    (root / "dev").mkdir()
    for node in NODES:
        (root / "dev" / node).touch()
    (root / "usr" / "bin").mkdir(parents=True)
    (root / "usr" / "bin" / "nvidia-smi").touch(0o755)
    return root
