"""Is a GPU idle? A judgement over facts, with the reason: the first check that finds something decides.

reserved ─▶ unhealthy ─▶ unfit ─▶ allocated, leased ─▶ processes ─▶ utilisation ─▶ memory
                                                               ─▶ too little known ─▶ idle

No single sign is trusted: utilisation is 0 % between two steps of a training, a container sees an empty table
of processes, and what could not be learned is never in favour.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from embedmill.devices.smi import EVERY_S
from embedmill.fleet import evidence
from embedmill.fleet.hours import Within, within
from embedmill.spec.fleet_reports import GpuState, GpuVerdict
from embedmill.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from embedmill.spec.fleet import FleetSpec, Reservation
    from embedmill.spec.host import GpuFacts, HostFacts, MigDevice

MIB = 1 << 20
FULL = 0.95
"""Windows and samples are never quite as long and as many as was asked for."""
UNFIT_MODES = {"exclusive": "only one process may use it", "prohibited": "no process may use it"}

Finding: TypeAlias = tuple[GpuState, str]


@dataclass(frozen=True)
class Look:
    """One server's facts, and what they are judged by."""

    server: str
    spec: FleetSpec
    facts: HostFacts
    now: datetime
    baseline_mib: Mapping[str, int] = field(default_factory=dict)

    def baseline_of(self, uuid: str) -> int:
        """Bytes that an idle GPU has in use: as declared, or learnt, or none."""
        declared = self.spec.idle.baseline_mib.get(self.server)
        return (self.baseline_mib.get(uuid, 0) if declared is None else declared) * MIB

    def allowed(self, uuid: str) -> int:
        """Bytes that may be in use."""
        return self.baseline_of(uuid) + self.spec.idle.memory_mib * MIB


def judge(
    server: str,
    spec: FleetSpec,
    facts: HostFacts,
    *,
    now: datetime,
    baseline_mib: Mapping[str, int] | None = None,
) -> tuple[GpuVerdict, ...]:
    """Every GPU of a server, and every slice of those in MIG mode, with the reason in words with figures.

    `now` has a time zone. `baseline_mib`: what was learnt of idle GPUs' memory, by UUID.
    """
    look = Look(server, spec, facts, now, baseline_mib or {})
    return tuple(verdict for gpu in facts.gpus for verdict in _judged(look, gpu))


def _judged(look: Look, gpu: GpuFacts) -> Iterator[GpuVerdict]:
    if not gpu.mig:
        yield _verdict(look, gpu, gpu.uuid, gpu.name, _first(look, gpu, CHECKS) or _idle(look, gpu))
        return
    count = len(gpu.mig_devices)
    yield _verdict(look, gpu, gpu.uuid, gpu.name, ("unfit", f"unfit: in MIG mode, with {count} slices"))
    for device in gpu.mig_devices:
        found = _first(look, gpu, OF_ALL_SLICES) or _slice(look, device)
        name = f"{gpu.name} {device.profile}"
        yield _verdict(look, gpu, device.uuid, name, found, device)


def _first(look: Look, gpu: GpuFacts, checks: tuple[Check, ...]) -> Finding | None:
    return next((found for check in checks if (found := check(look, gpu)) is not None), None)


def _verdict(
    look: Look, gpu: GpuFacts, uuid: str, name: str, found: Finding, device: MigDevice | None = None
) -> GpuVerdict:
    memory = gpu if device is None else device
    return GpuVerdict(
        server=look.server,
        index=gpu.index,
        uuid=uuid,
        name=name,
        state=found[0],
        reason=found[1],
        memory_bytes=memory.memory_bytes,
        used_bytes=memory.used_bytes,
    )


def _reserved(look: Look, gpu: GpuFacts) -> Finding | None:
    """The reservation that ends last."""
    found = [
        (ends, each.why)
        for each in look.spec.reserved
        if (ends := _reserves(look, each, gpu.index)) is not None
    ]
    if not found:
        return None
    ends, why = max(found, key=lambda each: (each[0].until is None, each[0].until or look.now))
    words = " ".join(part for part in ("reserved", ends.words(look.now)) if part)
    return "reserved", f"{words}: {why}" if why else words


def _reserves(look: Look, reservation: Reservation, index: int) -> Within | None:
    if look.server not in look.spec.members(reservation.servers):
        return None
    if reservation.gpus and index not in reservation.gpus:
        return None
    if not reservation.hours:
        return Within(None)
    return within(reservation.hours, look.now, look.spec.timezone)


def _unhealthy(_: Look, gpu: GpuFacts) -> Finding | None:
    found = evidence.illness(gpu.health)
    return ("unhealthy", f"unhealthy: {found}") if found else None


def _unfit(_: Look, gpu: GpuFacts) -> Finding | None:
    why = UNFIT_MODES.get(gpu.compute_mode or "")
    return ("unfit", f"unfit: compute mode {gpu.compute_mode}: {why}") if why else None


def _allocated(_: Look, gpu: GpuFacts) -> Finding | None:
    if gpu.allocations:
        return "busy", f"busy: {', '.join(gpu.allocations)}"
    return ("busy", f"busy: leased by {gpu.lease}") if gpu.lease is not None else None


def _has_processes(look: Look, gpu: GpuFacts) -> Finding | None:
    foreign = evidence.foreign(gpu.processes or (), look.spec.idle.exempt)
    return ("busy", f"busy: {evidence.processes_in_words(foreign)}") if foreign else None


def _computes(look: Look, gpu: GpuFacts) -> Finding | None:
    worst = max(evidence.settled(gpu), default=0)
    if worst <= look.spec.idle.utilisation:
        return None
    samples = counted(len(gpu.utilisation), "sample")
    return "busy", f"busy: utilisation reached {worst} % in {samples}"


def _holds_memory(look: Look, gpu: GpuFacts) -> Finding | None:
    most = max(gpu.used_bytes, gpu.most_used_bytes or 0)
    if most <= look.allowed(gpu.uuid):
        return None
    if gpu.processes:
        allowed = evidence.gib(look.allowed(gpu.uuid))
        return "busy", f"busy: {evidence.gib(most)} were in use, and an idle one has {allowed} at most"
    held = f"unknown: {evidence.gib(most)} are held and no process is visible (a container's process table?)"
    return "unknown", held + evidence.open_in_words(gpu.holders)


def _too_little_known(look: Look, gpu: GpuFacts) -> Finding | None:
    """What speaks for nothing: then the GPU is not called idle."""
    if gpu.processes is None:
        return "unknown", "unknown: the table of processes could not be read"
    if look.facts.namespaced:
        return "unknown", "unknown: pids here are a container's, so an empty table of processes says nothing"
    if gpu.compute_mode is None:
        return "unknown", "unknown: the compute mode could not be read"
    return _too_short(look) or _too_few(look, gpu)


def _too_short(look: Look) -> Finding | None:
    asked, was = look.spec.idle.window_s, look.facts.window_s
    if was >= asked * FULL:
        return None
    return "unknown", f"unknown: it was watched for {was:.0f} s, and {asked:.0f} s are asked for"


def _too_few(look: Look, gpu: GpuFacts) -> Finding | None:
    """A driver that hangs now and then may leave only a few samples."""
    every_s = look.spec.idle.every_s
    if look.facts.source == "nvidia-smi":
        every_s = max(every_s, EVERY_S)
    least = max(1, int(look.spec.idle.window_s / every_s / 2))
    if not gpu.utilisation:
        return "unknown", "unknown: utilisation could not be read"
    if len(gpu.utilisation) < least:
        found = counted(len(gpu.utilisation), "sample")
        return "unknown", f"unknown: {found} of utilisation, and at least {least} are needed"
    return None


def _idle(look: Look, gpu: GpuFacts) -> Finding:
    words = f"idle for {look.facts.window_s:.0f} s" if look.facts.window_s else "idle in one look"
    return "idle", words + evidence.open_in_words(gpu.holders) + evidence.unknown_health(gpu.health)


def _slice(look: Look, device: MigDevice) -> Finding:
    """By memory and processes alone: a slice has no utilisation."""
    if device.lease is not None:
        return "busy", f"busy: leased by {device.lease}"
    foreign = evidence.foreign(device.processes, look.spec.idle.exempt)
    if foreign:
        return "busy", f"busy: {evidence.processes_in_words(foreign)}"
    used = evidence.gib(device.used_bytes)
    if device.used_bytes > look.allowed(device.uuid):
        return "unknown", f"unknown: {used} are held and no process is visible (a container's process table?)"
    if look.facts.namespaced:
        return "unknown", "unknown: pids here are a container's, so an empty table of processes says nothing"
    return _too_short(look) or ("idle", f"idle: {used} in use, no process; a slice has no utilisation")


Check: TypeAlias = "Callable[[Look, GpuFacts], Finding | None]"
OF_ALL_SLICES: tuple[Check, ...] = (_reserved, _unhealthy, _unfit, _allocated)
CHECKS: tuple[Check, ...] = (
    *OF_ALL_SLICES,
    _has_processes,
    _computes,
    _holds_memory,
    _too_little_known,
)
