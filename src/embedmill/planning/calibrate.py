"""Whether a run is worth a calibration, and the calibrations that this machine remembers."""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from embedmill.errors import DeviceUnavailable, MissingExtra, StoreError
from embedmill.model.calibration import BUDGETS, Bench, search
from embedmill.spec.calibration import Calibration, CalibrationKey, KeptCalibration, Setting
from embedmill.spec.document import canonical_json, sha256
from embedmill.spec.pipeline import BATCH_TOKENS
from embedmill.store import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedmill.model import Encoder
    from embedmill.planning.freeze import FrozenShard
    from embedmill.spec import PipelineSpec
    from embedmill.spec.documents import Estimate
    from embedmill.world import World

WORTH_S = 120.0
"""Work that is expected to take less time is begun at once: a calibration takes some seconds."""
MOST_CORES = 8
"""With more, so many sessions stand for all, and only tokens of a batch are tried."""
SAMPLE_ROWS = 2048
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Calibrator:
    """Decides how a run's local workers compute. `one_thread`: loops share cores with other pipelines'.

    Only of texts, by ONNX Runtime on CPUs, where all workers are processes of this machine.
    """

    spec: PipelineSpec
    world: World
    one_thread: bool = False
    worth_s: float = WORTH_S

    def calibration(
        self, shards: Sequence[FrozenShard], estimate: Estimate, encoder: Callable[[], Encoder]
    ) -> Calibration | None:
        """What was measured before for this encoder on this machine, or is now; None where nothing is.

        `encoder` has one thread. What the spec states is not tried otherwise.
        """
        work = self.spec.work
        nothing_free = work.batch_tokens is not None and (work.workers is not None or self.one_thread)
        short = estimate.seconds is None or estimate.seconds < self.worth_s
        if not work.calibrate or self.spec.engine != "local" or nothing_free or short or not shards:
            return None
        try:
            loaded = encoder()
        except (MissingExtra, DeviceUnavailable):
            return None
        if loaded.profile.runtime != "onnxruntime" or not loaded.binding.texts or loaded.binding.files:
            return None
        key = self._key(loaded)
        file = cache_folder() / "calibrations" / f"{sha256(canonical_json(key.model_dump()))[:32]}.json"
        return _remembered(file, key) or self._measured(file, key, loaded, shards[len(shards) // 2])

    def _measured(
        self, file: Path, key: CalibrationKey, encoder: Encoder, shard: FrozenShard
    ) -> Calibration | None:
        """Measured now, and remembered; None where not even the default could be."""
        with pa.memory_map(str(shard.file)) as source:
            rows = pa.ipc.open_file(source).get_batch(0).slice(0, SAMPLE_ROWS)
        sessions = key.workers or key.cores
        tokens = key.batch_tokens or BATCH_TOKENS
        first = Setting(batch_tokens=tokens, sessions=min(sessions, MOST_CORES), threads=1)
        free = key.workers is None and not key.one_thread and key.cores <= MOST_CORES
        with Bench(encoder, rows, self.world.monotonic) as bench:
            budgets = BUDGETS if key.batch_tokens is None else ()
            chosen, measured = search(first, bench.rate, budgets=budgets, layouts=free)
        if not measured:
            return None
        created = self.world.now().strftime("%Y-%m-%d")
        found = Calibration(chosen=chosen, measured=measured, source=f"measured {created}")
        _remember(file, KeptCalibration(key=key, calibration=found, created=created))
        return found

    def _key(self, encoder: Encoder) -> CalibrationKey:
        work, profile = self.spec.work, encoder.profile
        return CalibrationKey(
            encoder_digest=encoder.package.encoder_digest(epoch=0),
            runtime=profile.runtime,
            runtime_version=profile.runtime_version,
            device=profile.device,
            processor=processor(),
            cores=len(os.sched_getaffinity(0)),
            batch_tokens=work.batch_tokens,
            workers=work.workers,
            one_thread=self.one_thread,
        )


def processor(cpuinfo: Path = CPUINFO) -> str:
    """The processor's name, as the kernel tells it, or of its kind alone."""
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()


def _remembered(file: Path, key: CalibrationKey) -> Calibration | None:
    """What the cache has of this very key; a file that cannot be read, or is of another, counts as none."""
    try:
        kept = KeptCalibration.from_bytes(file.read_bytes(), str(file))
    except (OSError, StoreError):
        return None
    chosen, tried = kept.calibration.chosen, {each.setting for each in kept.calibration.measured}
    return kept.calibration if kept.key == key and chosen in tried else None


def _remember(file: Path, kept: KeptCalibration) -> None:
    """In one step, so that no half of it is ever read; a cache that cannot be written is done without."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}")
        partial.write_bytes(kept.to_bytes())
        partial.replace(file)
