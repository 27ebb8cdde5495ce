"""From what servers told to places for worker loops: idle, matched to an image, within the limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from embedmill.engines.ssh import holder_name
from embedmill.errors import EmbedmillError
from embedmill.fleet.choosing import Choice, borrowed_now, choose
from embedmill.fleet.container import (
    Borrowed,
    Room,
    chosen_tool,
    container_command,
    container_name,
    removal_command,
)
from embedmill.types import Host, Look, Placement, YieldRule

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from datetime import datetime

    from embedmill.spec.fleet import FleetSpec, ServerSpec
    from embedmill.spec.fleet_reports import FleetMatch, FleetProbe, GpuMatch, GpuVerdict
    from embedmill.spec.host import GpuFacts, HostFacts, MigDevice
    from embedmill.spec.images import ImageSpec, ImagesSpec

MIB = 1 << 20
MOST_THREADS = 4


@dataclass(frozen=True)
class Start:
    """How a loop is started on a server: what `worker …` is appended to, and what ends it."""

    command: tuple[str, ...]
    cleanup: tuple[str, ...] = ()
    cid_file: str = ""


@dataclass(frozen=True)
class Spot:
    """A GPU or a slice of one, with the image that was chosen for it, and the loop that is to run there."""

    worker: str
    server: str
    spec: ServerSpec
    facts: HostFacts
    gpu: GpuFacts
    mig: MigDevice | None
    match: GpuMatch
    image: ImageSpec

    @property
    def uuid(self) -> str:
        """Of the slice, where it is one."""
        return self.mig.uuid if self.mig else self.gpu.uuid


Starting: TypeAlias = "Callable[[Spot], Start]"


def in_container(run: str, room: Room) -> Starting:
    """Starts loops of a run in containers."""

    def start(spot: Spot) -> Start:
        (verdict,) = (each for each in spot.match.verdicts if each.image == spot.match.chosen)
        borrowed = Borrowed(spot.gpu, spot.mig, verdict.rule)
        return start_of(spot.facts, borrowed, spot.image, spot.spec, worker=spot.worker, run=run, room=room)

    return start


def start_of(
    facts: HostFacts,
    borrowed: Borrowed,
    image: ImageSpec,
    server: ServerSpec,
    *,
    worker: str,
    run: str,
    room: Room,
) -> Start:
    """How a container is started under a holder; see `container_command`."""
    command = container_command(facts, borrowed, image, server, worker=worker, run=run, room=room)
    name = container_name(run, worker)
    # In the folder that the holder makes for this user alone, who started the container.
    cid_file = f"{server.folder}/workers/{facts.uid or 0}/{name}.cid"
    return Start(
        (*command[:2], f"--cidfile={cid_file}", *command[2:]),
        removal_command(chosen_tool(facts, server), name),
        cid_file,
    )


@dataclass(frozen=True)
class Placing:
    """Makes places of facts. `reach` is how a server is reached, `start` how a loop is started there."""

    spec: FleetSpec
    images: ImagesSpec
    run_url: str
    reach: Callable[[str], Host]
    start: Starting

    def places(
        self,
        probe: FleetProbe,
        match: FleetMatch,
        *,
        now: datetime,
        held: Collection[str] = (),
        most: int | None = None,
        baseline_mib: Mapping[str, int] | None = None,
    ) -> Look:
        """Places for at most `most` more loops; those of `held` loops are nobody's news.

        A GPU whose lock a loop of this very run holds is a place too: who starts it there finds it running.
        """
        verdicts = [verdict for server in probe.servers for verdict in server.gpus]
        borrowed = borrowed_now(probe)  # by whomever: fleet.yaml's limits are everybody's
        choices = choose(verdicts, self.spec, now=now, match=match, borrowed=borrowed)
        passed_over = {
            server.server: f"{server.state}: {server.reason}"
            for server in probe.servers
            if server.state != "ok"
        }
        free: list[Placement] = []
        for choice in self._in_order(probe, choices):
            worker, name = self._worker(choice.gpu), self._name(choice.gpu)
            if worker in held:
                continue
            if not (choice.taken or self._is_own(probe, choice.gpu.server, choice.gpu.uuid)):
                passed_over[name] = choice.reason
            elif most is not None and len(free) >= most:
                passed_over[name] = "not taken: there are no more shards"
            else:
                try:
                    free.append(self._placement(worker, choice.gpu, probe, match, baseline_mib or {}))
                except EmbedmillError as error:
                    passed_over[name] = f"not taken: {error}"
        return Look(tuple(free), passed_over)

    def _in_order(self, probe: FleetProbe, choices: tuple[Choice, ...]) -> Iterator[Choice]:
        """First those that loops of this run hold, whatever limits say by now."""
        own = [each for each in choices if self._is_own(probe, each.gpu.server, each.gpu.uuid)]
        yield from own
        yield from (each for each in choices if each not in own)

    def _is_own(self, probe: FleetProbe, server: str, uuid: str) -> bool:
        """Whether a loop of this run holds the GPU's lock: its holder's name is unique to the run."""
        for found in probe.servers:
            if found.server != server or found.facts is None:
                continue
            gpu = next((each for each in found.facts.gpus if each.uuid == uuid), None)
            verdict = next((each for each in found.gpus if each.uuid == uuid), None)
            if gpu is not None and verdict is not None and gpu.lease is not None:
                return holder_name(self.run_url, self._worker(verdict)) in gpu.lease
        return False

    def _placement(
        self,
        worker: str,
        gpu: GpuVerdict,
        probe: FleetProbe,
        match: FleetMatch,
        baseline_mib: Mapping[str, int],
    ) -> Placement:
        spot = self._spot(worker, gpu, probe, match)
        start = self.start(spot)
        declared = self.spec.idle.baseline_mib.get(gpu.server)
        baseline = baseline_mib.get(gpu.uuid, gpu.used_bytes // MIB) if declared is None else declared
        cuda = spot.image.device == "cuda"
        return Placement(
            worker,
            device=spot.image.device,
            threads=_threads(spot) if cuda else 1,
            host=self.reach(gpu.server),
            gpus=(gpu.uuid,),
            command=start.command,
            cleanup=start.cleanup,
            cid_file=start.cid_file,
            yields=YieldRule(
                baseline_mib=baseline,
                memory_mib=self.spec.idle.memory_mib,
                utilisation=self.spec.idle.utilisation,
                exempt=self.spec.idle.exempt,
            ),
            image=spot.match.chosen or "",
            type=gpu.name if cuda else "cpu",
        )

    def _spot(self, worker: str, gpu: GpuVerdict, probe: FleetProbe, match: FleetMatch) -> Spot:
        (facts,) = (each.facts for each in probe.servers if each.server == gpu.server and each.facts)
        (found,) = (each for each in match.gpus if (each.server, each.uuid) == (gpu.server, gpu.uuid))
        whole = next(each for each in facts.gpus if each.index == gpu.index)
        mig = next((each for each in whole.mig_devices if each.uuid == gpu.uuid), None)
        image = self.images.images[found.chosen or ""]
        return Spot(worker, gpu.server, self.spec.servers[gpu.server], facts, whole, mig, found, image)

    def _worker(self, gpu: GpuVerdict) -> str:
        """A loop's name, such as `gpu-01-0`; of a slice, with the beginning of its UUID."""
        slice_of = f"-{gpu.uuid.removeprefix('MIG-')[:8]}" if gpu.uuid.startswith("MIG-") else ""
        return f"{gpu.server}-{gpu.index}{slice_of}"

    def _name(self, gpu: GpuVerdict) -> str:
        return f"{gpu.server} #{gpu.index} ({gpu.name})"


def _threads(spot: Spot) -> int:
    """Cores that feed one GPU, on a server of others: its share of half of them, and 4 at most."""
    cores, gpus = spot.facts.cores or 1, max(1, len(spot.facts.gpus))
    return max(1, min(MOST_THREADS, cores // 2 // gpus))
