"""From what servers told to places for worker loops: idle, matched to an image, within the limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from embedmill.engines.ssh import holder_name
from embedmill.errors import EmbedmillError
from embedmill.fleet.choosing import Choice, borrowed_now, choose
from embedmill.fleet.container import (
    Borrowed,
    Room,
    borrowed_of,
    chosen_tool,
    container_command,
    container_name,
    removal_command,
)
from embedmill.spec.fleet_reports import place_of
from embedmill.types import Host, Look, Placement, YieldRule

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from datetime import datetime

    from embedmill.spec.fleet import FleetSpec, IdleSpec, RoomSpec, ServerSpec
    from embedmill.spec.fleet_reports import FleetMatch, FleetProbe, GpuMatch, GpuVerdict, ServerProbe
    from embedmill.spec.host import HostFacts
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
    server: ServerSpec
    room: RoomSpec
    facts: HostFacts
    borrowed: Borrowed
    image: ImageSpec

    @property
    def threads(self) -> int:
        """Cores that feed one GPU, on a server of others: its share of half of them, and 4 at most."""
        if self.image.device == "cpu":
            return 1
        cores, gpus = self.facts.cores or 1, max(1, len(self.facts.gpus))
        return max(1, min(MOST_THREADS, cores // 2 // gpus))

    def given(self, room: Room) -> Room:
        """What the loop may use there, of what is given where fleet.yaml says nothing else."""
        return replace(room.within(self.room), threads=self.threads)


Starting: TypeAlias = "Callable[[Spot], Start]"


def in_container(run: str, room: Room) -> Starting:
    """Starts loops of a run in containers."""

    def start(spot: Spot) -> Start:
        return start_of(
            spot.facts,
            spot.borrowed,
            spot.image,
            spot.server,
            worker=spot.worker,
            run=run,
            room=spot.given(room),
        )

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
        passed_over = {server.server: why for server in probe.servers if (why := _unusable(server))}
        usable = [server for server in probe.servers if server.server not in passed_over]
        verdicts = [verdict for server in usable for verdict in server.gpus]
        borrowed = borrowed_now(probe)  # by whomever: fleet.yaml's limits are everybody's
        choices = choose(verdicts, self.spec, now=now, match=match, borrowed=borrowed)
        free: list[Placement] = []
        for choice in self._in_order(probe, choices):
            worker, name = worker_name(choice.gpu), self._name(choice.gpu)
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
            verdict = next((each for each in found.gpus if each.uuid == uuid), None)
            if found.server != server or found.facts is None or verdict is None:
                continue
            lease = borrowed_of(found.facts, uuid).lease
            return lease is not None and holder_name(self.run_url, worker_name(verdict)) in lease
        return False

    def _placement(
        self,
        worker: str,
        gpu: GpuVerdict,
        probe: FleetProbe,
        match: FleetMatch,
        baseline_mib: Mapping[str, int],
    ) -> Placement:
        (facts,) = (each.facts for each in probe.servers if each.server == gpu.server and each.facts)
        (found,) = (each for each in match.gpus if (each.server, each.uuid) == (gpu.server, gpu.uuid))
        server, room = self.spec.servers[gpu.server], self.spec.room_of(gpu.server)
        borrowed = borrowed_of(facts, gpu.uuid, found.rule)
        spot = Spot(worker, server, room, facts, borrowed, self.images.images[found.chosen or ""])
        start = self.start(spot)
        baseline = baseline_mib.get(gpu.uuid, gpu.used_bytes // MIB)
        cuda = spot.image.device == "cuda"
        return Placement(
            worker,
            device=spot.image.device,
            threads=spot.threads,
            host=self.reach(gpu.server),
            gpus=(gpu.uuid,),
            command=start.command,
            cleanup=start.cleanup,
            cid_file=start.cid_file,
            yields=yield_rule(self.spec.idle, gpu.server, baseline),
            image=found.chosen or "",
            type=gpu.name if cuda else "cpu",
            gpu_memory_mib=room.gpu_memory_mib if cuda else None,
        )

    def _name(self, gpu: GpuVerdict) -> str:
        return f"{gpu.server} #{place_of(gpu)} ({gpu.name})"


def worker_name(gpu: GpuVerdict | GpuMatch) -> str:
    """A loop's name, such as `gpu-01-0`; of a slice, with the beginning of its UUID."""
    return f"{gpu.server}-{place_of(gpu)}"


def yield_rule(idle: IdleSpec, server: str, baseline_mib: int) -> YieldRule:
    """When a GPU of a server is given back. `baseline_mib`: what it has in use, unless fleet.yaml says so."""
    return YieldRule(
        baseline_mib=idle.baseline_mib.get(server, baseline_mib),
        memory_mib=idle.memory_mib,
        utilisation=idle.utilisation,
        exempt=idle.exempt,
    )


def _unusable(server: ServerProbe) -> str:
    """Why no loop can be placed on a server, whatever its GPUs do; empty where that is not so."""
    if server.state != "ok":
        return f"{server.state}: {server.reason}"
    if server.facts is not None and server.facts.source == "nvidia-smi" and server.facts.python is None:
        return "not taken: no python3, 3.8 or newer, is there, which would keep a GPU's lock"
    return ""
