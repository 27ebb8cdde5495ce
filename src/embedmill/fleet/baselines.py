"""The memory that idle GPUs have in use, learnt: the least that was seen of each while nobody had it.

Drivers hold some for themselves. A small file of the user's cache; if it is damaged, learning starts anew.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.errors import StoreError
from embedmill.spec.fleet_baselines import GpuBaselines
from embedmill.store import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from embedmill.spec.host import GpuFacts, HostFacts

MIB = 1 << 20
MOST_MIB = 1024
"""More than a driver holds for itself: somebody's memory, though nobody is to be seen."""


def baselines_file() -> Path:
    """Where they are kept."""
    return cache_folder() / "gpu-baselines.json"


def read_baselines(file: Path) -> tuple[dict[str, int], str]:
    """MiB by the GPU's UUID, and a word where the file was of no use; empty where there is none."""
    try:
        return dict(GpuBaselines.from_bytes(file.read_bytes(), str(file)).mib), ""
    except FileNotFoundError:
        return {}, ""
    except (StoreError, OSError) as error:
        said = error.message if isinstance(error, StoreError) else f"{file}: {error.strerror}"
        return {}, f"{said}: baselines are learnt anew"


def learnt(known: Mapping[str, int], hosts: Iterable[HostFacts]) -> dict[str, int]:
    """What is known, with what these facts teach: the least of each GPU counts."""
    found = dict(known)
    for facts in hosts:
        for gpu in facts.gpus:
            used = gpu.used_bytes // MIB
            if _teaches(gpu, facts) and used <= found.get(gpu.uuid, MOST_MIB):
                found[gpu.uuid] = used
    return found


def _teaches(gpu: GpuFacts, facts: HostFacts) -> bool:
    """Whether nobody had the GPU: then all memory in use is the driver's own. Daemons may have it open."""
    unheld = gpu.processes == () and not gpu.lease and not gpu.allocations
    still = bool(gpu.utilisation) and max(gpu.utilisation) == 0
    return unheld and still and facts.source == "nvml" and not facts.namespaced and not gpu.mig


def write_baselines(file: Path, mib: Mapping[str, int]) -> str:
    """Replace the file as a whole; a word where it could not be: the next look is only stricter then."""
    data = GpuBaselines(mib=dict(mib)).to_bytes()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=file.parent, prefix=file.name)
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(data)
            Path(partial).replace(file)
        except OSError:
            with contextlib.suppress(OSError):
                Path(partial).unlink()
            raise
    except OSError as error:
        return f"{file}: baselines cannot be kept: {(error.strerror or str(error)).lower()}"
    return ""
