"""What NVML tells over a window of time, gathered by a child: a driver that hangs takes the child alone.

The child writes a line of JSON for each thing that it learns, and before each call to the driver; so whatever
it had learned until then is kept, and it is known in which function it stuck. It has none of our descriptors
but its end of the pipe: a process that cannot even be killed would hold ssh's connection open with them.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any

from embedmill.devices.nvml import Nvml, NvmlAbsent, NvmlError
from embedmill.devices.procfs import described

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedmill.devices.nvml import Handle, Occupant


class Gathered:
    """What the child told. `gpus`: `GpuFacts` by index; `absent`: there is no NVML; `finished`: all of it."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.driver: str | None = None
        self.cuda: list[int] | None = None
        self.gpus: dict[int, dict[str, Any]] = {}
        self.problems: list[str] = []
        self.covered_s = 0.0
        self.lost: set[int] = set()
        self.absent = self.answered = self.finished = False
        self.calling = ""

    def take(self, message: dict[str, Any]) -> None:
        """One line of the child."""
        for name, value in message.items():
            if name == "problem":
                self.problems.append(value)
            elif name == "gpu":
                self.gpus[value["index"]] = value
            elif name == "sample":
                self._add(value)
            elif name == "lost":
                self.lost.add(value)
            else:
                setattr(self, name, value)

    def _add(self, samples: dict[str, dict[str, Any]]) -> None:
        for index, sample in samples.items():
            add_sample(self.gpus[int(index)], sample)

    def told(self) -> list[dict[str, Any]]:
        """All GPUs but the lost ones. Where the driver stuck, an empty table of processes tells nothing."""
        if not self.finished:
            for gpu in self.gpus.values():
                gpu["processes"] = gpu["processes"] or None
        return [gpu for index, gpu in sorted(self.gpus.items()) if index not in self.lost]


def add_sample(gpu: dict[str, Any], sample: dict[str, Any]) -> None:
    """The highest figures and every process that was there at any time."""
    gpu["used_bytes"] = sample["used_bytes"]
    gpu["most_used_bytes"] = max(gpu["most_used_bytes"], sample["used_bytes"])
    if sample["utilisation"] is not None:
        gpu["utilisation"].append(sample["utilisation"])
    if sample["processes"] is None:
        gpu["processes"] = None
    elif gpu["processes"] is not None:
        gpu["processes"] = _together(gpu["processes"], sample["processes"])
    for device, found in zip(gpu["mig_devices"], sample["mig_devices"]):  # noqa: B905 - not in Python 3.8
        device["used_bytes"] = max(device["used_bytes"], found["used_bytes"])
        device["processes"] = _together(device["processes"], found["processes"])


def _together(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By pid, with the most memory that each had."""
    found = {each["pid"]: dict(each) for each in one}
    for each in other:
        known = found.setdefault(each["pid"], dict(each))
        known["used_bytes"] = max(known["used_bytes"] or 0, each["used_bytes"] or 0) or each["used_bytes"]
    return list(found.values())


class Gathering:
    """A child that asks NVML for `window_s`. Start no thread before it: it is forked."""

    def __init__(self, window_s: float, every_s: float) -> None:
        """Start it."""
        self._pipe, writing = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(self._pipe)
            _be_child(writing, window_s, every_s)
        os.close(writing)

    def result(self, until: float) -> Gathered:
        """What it has told until then, by `time.monotonic`; ends it."""
        gathered = Gathered()
        try:
            _read_lines(self._pipe, until, gathered)
        finally:
            os.close(self._pipe)
            os.kill(self._child, signal.SIGKILL)
            if gathered.finished:
                os.waitpid(self._child, 0)
        return gathered


def _read_lines(reading: int, until: float, gathered: Gathered) -> None:
    waiting = b""
    while True:
        ready, _, _ = select.select([reading], [], [], max(0.0, until - time.monotonic()))
        data = os.read(reading, 1 << 16) if ready else b""
        if not data:
            return
        *lines, waiting = (waiting + data).split(b"\n")
        for line in lines:
            gathered.take(json.loads(line))


def _be_child(writing: int, window_s: float, every_s: float) -> None:
    """Never returns."""
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)

        def tell(**message: Any) -> None:
            os.write(writing, (json.dumps(message) + "\n").encode())

        _tell_all(tell, window_s, every_s)
    finally:
        os._exit(0)


def _tell_all(tell: Callable[..., None], window_s: float, every_s: float) -> None:
    try:
        nvml = Nvml(lambda function: tell(calling=function))
        tell(answered=True, driver=nvml.driver(), cuda=nvml.cuda())
        gpus = [_Gpu(nvml, tell, index) for index in range(nvml.count())]
        _sample_all([each for each in gpus if each.told], tell, window_s, every_s)
    except NvmlAbsent:
        tell(absent=True)
    except NvmlError as error:
        tell(problem=f"driver: {error}")
    tell(finished=True)


def _sample_all(gpus: list[_Gpu], tell: Callable[..., None], window_s: float, every_s: float) -> None:
    """At least one sample; the last one at the end of the window."""
    begun = time.monotonic()
    count = math.ceil(window_s / every_s) + 1
    for number in range(count):
        time.sleep(max(0.0, begun + min(number * every_s, window_s) - time.monotonic()))
        samples = {each.index: sample for each in gpus for sample in [each.sample()] if sample}
        tell(sample=samples, covered_s=time.monotonic() - begun)


class _Gpu:
    """One GPU. What fails is told once; without its UUID or its memory it is not told at all."""

    def __init__(self, nvml: Nvml, tell: Callable[..., None], index: int) -> None:
        """Tell all that does not change."""
        self._nvml, self._tell, self.index = nvml, tell, index
        self._said: set[str] = set()
        self._slices: list[Handle] = []
        self.told = False
        try:
            self._handle = nvml.gpu(index)
            tell(gpu=self._facts())
            self.told = True
        except NvmlError as error:
            tell(problem=f"GPU {index}: {error}")

    def _learn(self, function: Callable[[Handle], Any], *, unsupported: Any = None) -> Any:
        try:
            return function(self._handle)
        except NvmlError as error:
            self._complain(error)
            return unsupported if error.unsupported else None

    def _complain(self, error: NvmlError) -> None:
        problem = f"GPU {self.index}: {error}"
        if not error.unsupported and problem not in self._said:
            self._said.add(problem)
            self._tell(problem=problem)

    def _facts(self) -> dict[str, Any]:
        nvml, learn = self._nvml, self._learn
        total, used = nvml.memory(self._handle)
        pending, failed = learn(nvml.remapped_rows) or (None, None)
        mig = learn(nvml.mig, unsupported=False)
        return {
            "index": self.index,
            "uuid": nvml.uuid(self._handle),
            "name": learn(nvml.name) or "unknown",
            "memory_bytes": total,
            "used_bytes": used,
            "minor": learn(nvml.minor),
            "pci_bus_id": learn(nvml.bus),
            "compute_capability": learn(nvml.capability),
            "brand": learn(nvml.brand),
            "utilisation": [],
            "most_used_bytes": used,
            "processes": [],
            "compute_mode": learn(nvml.compute_mode),
            "persistence": learn(nvml.persistence),
            "display": learn(nvml.display),
            "mig": mig,
            "mig_devices": (learn(self._find_slices) or []) if mig else [],
            "health": {
                "ecc_uncorrected": learn(nvml.ecc_uncorrected),
                "remap_pending": pending,
                "remap_failed": failed,
            },
        }

    def _find_slices(self, handle: Handle) -> list[dict[str, Any]]:
        slices = self._nvml.mig_devices(handle)
        facts = [self._slice(each) for each in slices]
        self._slices = slices
        return facts

    def _slice(self, handle: Handle) -> dict[str, Any]:
        total, used = self._nvml.memory(handle)
        gpu_instance, compute_instance = self._nvml.instances(handle)
        return {
            "uuid": self._nvml.uuid(handle),
            "profile": self._nvml.name(handle).rpartition("MIG ")[2],
            "memory_bytes": total,
            "used_bytes": used,
            "processes": [],
            "gpu_instance": gpu_instance,
            "compute_instance": compute_instance,
        }

    def sample(self) -> dict[str, Any] | None:
        """As it is now; None where not even its memory can be learned: then it is told to be lost."""
        nvml = self._nvml
        try:
            return {
                "used_bytes": nvml.memory(self._handle)[1],
                "utilisation": self._learn(nvml.utilisation),
                "processes": self._learn(lambda handle: _described(nvml.processes(handle))),
                "mig_devices": [self._slice_sample(each) for each in self._slices],
            }
        except NvmlError as error:
            self._complain(error)
            self._tell(lost=self.index)
            return None

    def _slice_sample(self, handle: Handle) -> dict[str, Any]:
        return {
            "used_bytes": self._nvml.memory(handle)[1],
            "processes": _described(self._nvml.processes(handle)),
        }


def _described(occupants: list[Occupant]) -> list[dict[str, Any]]:
    return [
        {"pid": each.pid, "used_bytes": each.used_bytes, "kind": each.kind, **described(each.pid)}
        for each in occupants
    ]
