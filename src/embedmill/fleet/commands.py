"""The command that would start a worker's container on each GPU of a server, without starting one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.errors import DeviceUnavailable, SpecError
from embedmill.fleet.container import Room, borrowed_of, container_command
from embedmill.fleet.matching import match_fleet
from embedmill.fleet.placing import Spot, worker_name
from embedmill.spec.fleet_reports import GpuCommand

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedmill.spec.fleet import FleetSpec
    from embedmill.spec.fleet_reports import FleetProbe, GpuMatch
    from embedmill.spec.host import HostFacts
    from embedmill.spec.images import ImagesSpec

RUN = "RUN"
"""In the place of a run's name."""


def commands_of(spec: FleetSpec, images: ImagesSpec, probe: FleetProbe) -> Iterator[GpuCommand]:
    """One for every GPU, and every slice of those in MIG mode, of the servers that answered.

    Raises:
        SpecError: What an image requires is no expression.
    """
    facts = {server.server: server.facts for server in probe.servers if server.facts is not None}
    for gpu in match_fleet(probe, images).gpus:
        command: tuple[str, ...] = ()
        reason = gpu.reason
        if gpu.chosen is not None:
            reason = f"{gpu.chosen}: {reason}"
            try:
                command = _command(spec, images, facts[gpu.server], gpu)
            except (DeviceUnavailable, SpecError) as error:
                reason = f"{reason}; {error}"
        yield GpuCommand(index=gpu.index, uuid=gpu.uuid, name=gpu.name, command=command, reason=reason)


def _command(spec: FleetSpec, images: ImagesSpec, facts: HostFacts, gpu: GpuMatch) -> tuple[str, ...]:
    image, server, room = images.images[gpu.chosen or ""], spec.servers[gpu.server], spec.room_of(gpu.server)
    borrowed = borrowed_of(facts, gpu.uuid, gpu.rule)
    spot = Spot(worker_name(gpu), server, room, facts, borrowed, image)
    return container_command(
        facts, borrowed, image, server, worker=spot.worker, run=RUN, room=spot.given(Room())
    )
