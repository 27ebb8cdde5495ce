"""A server's only GPU, told by the fake NVML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.fake_gpus import FakeGpu, FakeProcess, Scenario

GPU = "GPU-1"


@dataclass(frozen=True)
class Gpu:
    """The one GPU of a fake driver, and who is on it."""

    scenario: Path
    library: Path

    def idle(self) -> None:
        Scenario([FakeGpu(GPU)]).write(self.scenario)

    def taken_by(self, *pids: int, used_mib: int = 9000) -> None:
        processes = [FakeProcess(0, pid, used_mib // len(pids)) for pid in pids]
        Scenario([FakeGpu(GPU, used_mib=used_mib, utilisation=(97,))], processes).write(self.scenario)

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_LIBRARY_PATH": str(self.library.parent), "FAKE_NVML_SCENARIO": str(self.scenario)}
