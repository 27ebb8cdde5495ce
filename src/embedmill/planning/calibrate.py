"""Whether a run is worth a calibration, and the calibrations that this machine remembers."""

from __future__ import annotations

import contextlib
import platform
import uuid
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.cores import EVERY, cores
from embedmill.errors import DeviceUnavailable, MissingExtra, StoreError
from embedmill.model.calibration import BUDGETS, Bench, search
from embedmill.release.stamps import digest_noted, note_digested
from embedmill.spec.calibration import Calibration, CalibrationKey, KeptCalibration, Setting
from embedmill.spec.document import canonical_json, sha256
from embedmill.spec.pipeline import BATCH_TOKENS
from embedmill.store import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedmill.model import Encoder, ModelPackage
    from embedmill.planning.shards import FrozenShard
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

        `encoder` has one thread. What the spec states is not tried otherwise. The estimate decides only
        whether measuring is worth while: it may be a measurement itself, and what is remembered holds always.
        """
        if not self._chooses or not shards:
            return None
        try:
            loaded = encoder()
        except (MissingExtra, DeviceUnavailable):
            return None
        if loaded.profile.runtime != "onnxruntime" or not loaded.binding.texts or loaded.binding.files:
            return None
        profile, tokens = loaded.profile, sum(shard.cost for shard in shards)
        digest, row_tokens = loaded.package.package_digest(), tokens // sum(shard.rows for shard in shards)
        runs_on = (profile.runtime, profile.runtime_version, profile.device)
        key = self._key(digest, *runs_on, row_tokens=1 << row_tokens.bit_length())
        file = _folder() / f"{sha256(canonical_json(key.model_dump()))[:32]}.json"
        found = _remembered(file, key)
        if found is None and estimate.seconds is not None and estimate.seconds >= self.worth_s:
            found = self._measured(file, key, loaded, shards[len(shards) // 2])
        if found is not None:
            note_digested(loaded.package)
        return found if found is not None and found.measured else None

    def remembered_threads(self, package: ModelPackage) -> int:
        """Of each loop that computes this model here: as it was measured last, or one.

        Neither rows nor an encoder are asked: of rows of another length the plan may say otherwise. Nor is
        the model digested, for no loop would start meanwhile: one that was calibrated has a stamp.
        """
        if not self._chooses:
            return 1
        found = [kept for kept in map(_kept, _newest_first()) if kept is not None and self._fits(kept.key)]
        if all(_threads(kept) == 1 for kept in found):
            return 1  # whichever model it is
        digest = digest_noted(package)
        return next((_threads(kept) for kept in found if kept.key.package_digest == digest), 1)

    def _fits(self, key: CalibrationKey) -> bool:
        """Whether it was measured on this machine as it is now, under this spec: of any model and rows."""
        unknown = ("package_digest", "runtime", "runtime_version", "device", "row_tokens")
        alike = self._key(**{name: getattr(key, name) for name in unknown})
        return key == alike and key.runtime_version in _runtime_versions()

    @property
    def _chooses(self) -> bool:
        """Whether the spec leaves anything to what is measured."""
        work = self.spec.work
        states_all = work.batch_tokens is not None and (work.workers is not None or self.one_thread)
        return work.calibrate and self.spec.engine == "local" and not states_all

    def _measured(self, file: Path, key: CalibrationKey, encoder: Encoder, shard: FrozenShard) -> Calibration:
        """Measured now; remembered if nothing was left out of it, or if not even the default could be.

        It is not where memory was short, which it may not be the next time.
        """
        sessions = key.workers or key.cores
        tokens = key.batch_tokens or BATCH_TOKENS
        first = Setting(batch_tokens=tokens, sessions=min(sessions, MOST_CORES), threads=1)
        free = key.workers is None and not key.one_thread and key.cores <= MOST_CORES
        with Bench(encoder, shard.first_rows(SAMPLE_ROWS), self.world.monotonic) as bench:
            budgets = BUDGETS if key.batch_tokens is None else ()
            chosen, measured = search(first, bench.rate, budgets=budgets, layouts=free)
        if measured and not measured[0].items_per_s:  # the default itself failed
            measured = ()
        created = self.world.now().strftime("%Y-%m-%d")
        found = Calibration(chosen=chosen, measured=measured, source=f"measured {created}")
        if not bench.short and not (bench.late and measured):
            _remember(file, KeptCalibration(key=key, calibration=found, created=created))
        return found

    def _key(
        self, package_digest: str, runtime: str, runtime_version: str, device: str, row_tokens: int
    ) -> CalibrationKey:
        """Of this machine and this spec."""
        return CalibrationKey(
            package_digest=package_digest,
            runtime=runtime,
            runtime_version=runtime_version,
            device=device,
            processor=processor(),
            cores=cores(EVERY),
            row_tokens=row_tokens,
            batch_tokens=self.spec.work.batch_tokens,
            workers=self.spec.work.workers,
            one_thread=self.one_thread,
        )


def processor(cpuinfo: Path = CPUINFO) -> str:
    """The first processor's name, family and model, as the kernel tells them; else of its kind alone.

    A virtual machine's often has the maker's name only, which its next generation has, too.
    """
    told = {}
    with contextlib.suppress(OSError):
        for line in reversed(cpuinfo.read_text().splitlines()):  # so that the first of all counts
            name, _, value = line.partition(":")
            told[name.strip()] = value.strip()
    name = told.get("model name") or platform.machine()
    numbers = [f"{each} {told[each]}" for each in ("cpu family", "model") if told.get(each)]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def _folder() -> Path:
    return cache_folder() / "calibrations"


def _newest_first() -> list[Path]:
    """What the cache remembers; nothing where a file goes just now."""
    with contextlib.suppress(OSError):
        return sorted(_folder().glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    return []


def _threads(kept: KeptCalibration) -> int:
    """Of each loop; one where nothing could be measured."""
    return kept.calibration.chosen.threads if kept.calibration.measured else 1


def _runtime_versions() -> set[str]:
    """Of ONNX Runtime as it is installed; it is not imported."""
    found = set[str]()
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(PackageNotFoundError):
            found.add(version(name))
    return found


def _remembered(file: Path, key: CalibrationKey) -> Calibration | None:
    """What the cache has of this very key."""
    kept = _kept(file)
    return kept.calibration if kept is not None and kept.key == key else None


def _kept(file: Path) -> KeptCalibration | None:
    """What a file of the cache says; one that cannot be read, or was not measured, counts as none."""
    try:
        kept = KeptCalibration.from_bytes(file.read_bytes(), str(file))
    except (OSError, StoreError):
        return None
    chosen, tried = kept.calibration.chosen, {each.setting for each in kept.calibration.measured}
    return kept if chosen in tried or not tried else None


def _remember(file: Path, kept: KeptCalibration) -> None:
    """In one step, so that no half of it is ever read; a cache that cannot be written is done without."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{uuid.uuid4().hex}")
        partial.write_bytes(kept.to_bytes())
        partial.replace(file)
