"""GPUs that are not there: a `libnvidia-ml.so.1` that answers what a file says.

    library = build_library(folder)
    scenario = Scenario([FakeGpu("GPU-1", "Tesla T4", 15360)], [FakeProcess(gpu=0, pid=4242, used_mib=900)])
    scenario.write(folder / "scenario")
    environment = {"LD_LIBRARY_PATH": str(library.parent), "FAKE_NVML_SCENARIO": str(folder / "scenario")}

Writing the file again, while something runs, changes what it sees.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")
NAME, CUDA_NAME = "libnvidia-ml.so.1", "libcuda.so.1"
BUILT = Path(__file__).parents[2] / "build" / "fake_nvml"
CUDA_SOURCE = SOURCE.with_name("fake_cuda.c")
NOT_SUPPORTED, DRIVER_NOT_LOADED, FUNCTION_NOT_FOUND, GPU_IS_LOST, MISMATCH, UNKNOWN = 3, 9, 13, 15, 18, 999
"""Codes of NVML for `Scenario.fail`."""


@dataclass(frozen=True)
class FakeMig:
    """A slice of a GPU in MIG mode."""

    uuid: str
    profile: str = "1g.5gb"
    memory_mib: int = 4864
    used_mib: int = 12
    gi: int = 7
    ci: int = 0


@dataclass(frozen=True)
class FakeGpu:
    """A GPU; None is what the driver does not support. Several utilisations are told in turn."""

    uuid: str
    name: str = "Tesla T4"
    memory_mib: int = 15360
    used_mib: int = 3
    reserved_mib: int = 0
    utilisation: tuple[int, ...] | None = (0,)
    cc: str | None = "7.5"
    minor: int | None = None
    bus: str = "00000000:3B:00.0"
    brand: str | None = "tesla"
    mode: str | None = "default"
    mig: int | None = None
    migs: tuple[FakeMig, ...] = ()
    remap_pending: int | None = 0
    remap_failed: int | None = 0
    ecc: int | None = 0
    display: int | None = 0
    persistence: int | None = 1


@dataclass(frozen=True)
class FakeProcess:
    """A process on a GPU, by its place in the scenario. `mig`: the slice it is on."""

    gpu: int
    pid: int
    used_mib: int | None = 0
    kind: str = "compute"
    mig: FakeMig | None = None


@dataclass(frozen=True)
class Scenario:
    """What the fake library tells. `fail`: function → NVML's code; `hang`: function → seconds.

    A function may be followed by a GPU, as in `nvmlDeviceGetUUID gpu=1`. `nodes`: a folder; only GPUs
    whose node is in it and opens are seen, as in a container that was given one of them.
    """

    gpus: Sequence[FakeGpu] = ()
    processes: Sequence[FakeProcess] = ()
    driver: str = "535.183.01"
    cuda: str = "12.2"
    fail: dict[str, int] = field(default_factory=dict)
    hang: dict[str, int] = field(default_factory=dict)
    nodes: str | None = None

    def text(self) -> str:
        """The lines that fake_nvml.c reads."""
        lines = [f"driver {self.driver}", f"cuda {self.cuda}"]
        lines += [f"nodes {self.nodes}"] if self.nodes else []
        for index, gpu in enumerate(self.gpus):
            lines.append(_line(f"gpu {index}", _values_of(gpu, index)))
            lines += [_line("mig", {"gpu": index, **vars(mig)}) for mig in gpu.migs]
        lines += [_line("process", _values_of_process(each)) for each in self.processes]
        lines += [_rule("fail", function, code) for function, code in self.fail.items()]
        lines += [_rule("hang", function, seconds) for function, seconds in self.hang.items()]
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> Path:
        """Put it there at once, so that no reader sees a half of it."""
        file, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(file, "w") as opened:
            opened.write(self.text())
        Path(name).chmod(0o644)
        Path(name).replace(path)
        return path

    def environment(self, library: Path, path: Path) -> dict[str, str]:
        """Write it, and what a process needs to see it."""
        self.write(path)
        return {"LD_LIBRARY_PATH": str(library.parent), "FAKE_NVML_SCENARIO": str(path)}


def _values_of(gpu: FakeGpu, index: int) -> dict[str, object]:
    values = {
        name: value for name, value in vars(gpu).items() if name not in ("migs", "utilisation", "minor")
    }
    values["minor"] = index if gpu.minor is None else gpu.minor
    if gpu.utilisation is not None:
        values["utilisation"] = ",".join(map(str, gpu.utilisation))
    return values


def _values_of_process(process: FakeProcess) -> dict[str, object]:
    values = {name: value for name, value in vars(process).items() if name != "mig"}
    return values | ({"gi": process.mig.gi, "ci": process.mig.ci} if process.mig else {})


def _line(begin: str, values: dict[str, object]) -> str:
    told = {name: value for name, value in values.items() if value is not None}
    return " ".join(
        [
            begin,
            *(
                f'{name}="{value}"' if " " in str(value) else f"{name}={value}"
                for name, value in told.items()
            ),
        ]
    )


def _rule(verb: str, function: str, number: int) -> str:
    name, _, gpu = function.partition(" ")
    return f"{verb} {name} {number} {gpu}".rstrip()


def build_library(folder: Path = BUILT, *, without: Sequence[str] = ()) -> Path:
    """The library, compiled once for its source; `without`: functions that an older driver does not have.

    Beside it lies a `libcuda.so.1`: who takes memory of a GPU by it stands in the scenario afterwards. Skips
    the test where there is no compiler.
    """
    if shutil.which("gcc") is None:
        pytest.skip("no fake NVML can be built here: no gcc (Debian: gcc libc6-dev)")
    sources = SOURCE.read_bytes() + CUDA_SOURCE.read_bytes()
    home = folder.resolve() / hashlib.sha256(sources + " ".join(without).encode()).hexdigest()[:16]
    library = home / NAME
    if not library.is_file():
        home.mkdir(parents=True, exist_ok=True)
        exported = home / "exported"
        hidden = f"local: {' '.join(f'{name};' for name in without)}" if without else ""
        exported.write_text(f"{{ global: nvml*; {hidden} }};\n")
        _compile(CUDA_SOURCE, home / CUDA_NAME)
        _compile(SOURCE, library, "-pthread", f"-Wl,--version-script={exported}")
    return library


def _compile(source: Path, library: Path, *options: str) -> None:
    """Put the library there at once: several tests may need it."""
    made = library.with_name(f"{library.name}.{os.getpid()}")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", *options]
    subprocess.run([*command, f"-Wl,-soname,{library.name}", "-o", made, source], check=True)
    made.replace(library)
