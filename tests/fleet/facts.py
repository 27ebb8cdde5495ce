"""Facts of servers as the probe tells them, for judging: an idle GPU, and what is changed of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from embedmill.spec.fleet import FleetSpec
from embedmill.spec.host import GpuFacts, GpuProcess, Health, HostFacts

MIB, GIB = 1 << 20, 1 << 30
NOW = datetime(2026, 1, 30, 12, 0, tzinfo=UTC)
"""A Friday."""
HEALTHY = Health(ecc_uncorrected=0, remap_pending=False, remap_failed=False, xids=())


def gpu(**changed: Any) -> GpuFacts:
    """One that nobody has, watched for 120 s."""
    values: dict[str, Any] = {
        "index": 0,
        "uuid": "GPU-1",
        "name": "Tesla T4",
        "memory_bytes": 15 * GIB,
        "used_bytes": 3 * MIB,
        "most_used_bytes": 3 * MIB,
        "minor": 0,
        "compute_capability": (7, 5),
        "brand": "Tesla",
        "utilisation": (0,) * 60,
        "processes": (),
        "holders": (),
        "compute_mode": "default",
        "persistence": True,
        "mig": False,
        "health": HEALTHY,
    }
    return GpuFacts(**{**values, **changed})


def host(*gpus: GpuFacts, **changed: Any) -> HostFacts:
    values: dict[str, Any] = {
        "hostname": "gpu-01",
        "taken": "2026-01-30T12:00:00Z",
        "window_s": 120.0,
        "source": "nvml",
        "driver": "535.183.01",
        "cuda": (12, 2),
        "gpus": gpus,
    }
    return HostFacts(**{**values, **changed})


def process(pid: int = 4242, **changed: Any) -> GpuProcess:
    values = {"pid": pid, "name": "python", "user": "alice", "used_bytes": 38092 * MIB}
    return GpuProcess(**{**values, **changed})


def fleet(*servers: str, **changed: Any) -> FleetSpec:
    named = dict.fromkeys(servers or ("gpu-01",))
    return FleetSpec.model_validate({"servers": named, **changed})
