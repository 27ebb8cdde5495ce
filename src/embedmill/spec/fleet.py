"""`fleet.yaml`: the servers whose idle GPUs may be borrowed, and when."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from embedmill.spec.section import Section, WrongAt, unknown

Folder = Annotated[str, Field(pattern=r"^/[^\s:,]*$")]
ServerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HOURS = re.compile(
    rf"^(?:(?P<first>{'|'.join(DAYS)})(?:-(?P<last>{'|'.join(DAYS)}))? )?"
    r"(?P<begin>[01]\d:[0-5]\d|2[0-3]:[0-5]\d)-(?P<end>[01]\d:[0-5]\d|2[0-3]:[0-5]\d|24:00)$"
)


def checked_hours(hours: str) -> str:
    """`08:00-20:00`, with days before it or for all of them; it may end on the day after."""
    if not _HOURS.match(hours):
        raise ValueError(f"{hours!r}: expected hours such as `08:00-20:00` or `Mon-Fri 08:00-20:00`")
    return hours


class RoomSpec(Section):
    """What a worker's container may use of a server, at most. What is absent is as for all servers."""

    memory_mib: int | None = Field(
        default=None, ge=1, description="Memory, in MiB, its `/tmp` among it; 16384 where nobody says."
    )
    scratch_mib: int | None = Field(
        default=None, ge=1, description="Of that for `/tmp`, in MiB; 4096 where nobody says."
    )
    scratch: Folder | None = Field(
        default=None, description="A folder of the server that is `/tmp` instead of memory."
    )
    processes: int | None = Field(
        default=None, ge=1, description="Processes and threads; 4096 where nobody says."
    )
    gpu_memory_mib: int | None = Field(
        default=None, ge=1, description="Memory of its GPU, in MiB, where the model's own limit is not lower."
    )

    def over(self, general: RoomSpec) -> RoomSpec:
        """What is said here, and of what is not, what is said in general."""
        return general.model_copy(update=self.model_dump(exclude_none=True))


class ServerSpec(Section):
    """One server. Without any of this it is reached by `ssh NAME`, as your ssh's configuration says."""

    kind: Literal["ssh", "local", "kubernetes", "jenkins"] = Field(
        default="ssh",
        description="How it is reached; kubernetes and jenkins: by what their engine runs there.",
    )
    address: str | None = Field(
        default=None,
        pattern=r"^[^-\s][^\s]*$",
        description="What ssh connects to, such as `me@10.0.0.7`; the name where absent. The node's or "
        "agent's name for other kinds.",
    )
    port: int | None = Field(
        default=None, ge=1, le=65535, description="Of its sshd; ssh's own choice where absent."
    )
    options: tuple[str, ...] = Field(
        default=(), description="More arguments for ssh, such as [-F, fleet.ssh_config]."
    )
    folder: str = Field(
        default="/var/tmp/embedmill",  # noqa: S108 - it has a name of its own below, and modes
        pattern=r"^/[^\s:,]*$",
        description="A folder there for locks and logs, the same for everybody who borrows its GPUs.",
    )
    container: Literal["podman", "docker"] | None = Field(
        default=None, description="What starts containers there; the first that is installed where absent."
    )
    arguments: tuple[str, ...] = Field(
        default=(),
        description="More arguments for `podman run` or `docker run`, such as [--ulimit, nofile=1024].",
    )
    mounts: tuple[Folder, ...] = Field(
        default=(), description="Folders that workers may read and write, such as a store on a network disk."
    )
    room: RoomSpec = RoomSpec()


class Reservation(Section):
    """Servers, or some of their GPUs, that are not to be borrowed."""

    servers: tuple[ServerName, ...] = Field(min_length=1, description="Names of servers or pools.")
    gpus: tuple[int, ...] = Field(default=(), description="Indices; all GPUs where absent.")
    hours: tuple[str, ...] = Field(
        default=(), description="Such as `Mon-Fri 08:00-20:00`; always where absent."
    )
    why: str = Field(default="", description="For whoever wonders.")

    @field_validator("hours")
    @classmethod
    def _check_hours(cls, hours: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(checked_hours, hours))


class FleetLimits(Section):
    """How much may be borrowed at once, and never when."""

    servers: int | None = Field(default=None, ge=1, description="Servers at once.")
    gpus: int | None = Field(default=None, ge=1, description="GPUs at once.")
    never: tuple[str, ...] = Field(default=(), description="Hours such as `08:00-20:00`.")

    @field_validator("never")
    @classmethod
    def _check_hours(cls, hours: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(checked_hours, hours))


class IdleSpec(Section):
    """When a GPU counts as idle."""

    window_s: float = Field(default=120.0, ge=0, description="How long it must have been idle.")
    every_s: float = Field(default=2.0, gt=0, description="How often it is looked at meanwhile.")
    utilisation: int = Field(default=5, ge=0, le=100, description="Percent in the worst sample, at most.")
    memory_mib: int = Field(default=500, ge=0, description="Memory in use beyond the baseline, at most; MiB.")
    baseline_mib: dict[ServerName, int] = Field(
        default_factory=dict,
        description="Memory that an idle GPU has in use, by server; where absent, the least that was seen.",
    )
    exempt: tuple[str, ...] = Field(
        default=(
            "Xorg",
            "Xwayland",
            "gnome-shell",
            "nvidia-cuda-mps-server",
            "nvidia-persistenced",
            "nv-hostengine",
            "dcgm",
        ),
        description="Programs that may have a GPU open, by the beginning of their names.",
    )


class FleetSpec(Section):
    """Servers, who else has a right to them, and how idle is idle."""

    servers: dict[ServerName, ServerSpec] = Field(min_length=1, description="By name; a new one is one line.")
    pools: dict[ServerName, tuple[ServerName, ...]] = Field(
        default_factory=dict, description="Names for several servers."
    )
    reserved: tuple[Reservation, ...] = Field(default=(), description="What is not to be borrowed, and when.")
    limits: FleetLimits = FleetLimits()
    room: RoomSpec = RoomSpec()
    idle: IdleSpec = IdleSpec()
    timezone: str = Field(default="UTC", description="Of all hours here, such as Europe/Berlin.")
    timeout_s: float = Field(
        default=30.0, gt=0, description="For one server's answer, beside the idle window."
    )
    parallel: int = Field(default=32, ge=1, description="Servers that are asked at once.")
    images: str | None = Field(default=None, description="The images.yaml, relative to this file's folder.")

    @field_validator("servers", mode="before")
    @classmethod
    def _one_line(cls, servers: object) -> object:
        """`gpu-07:` alone is a server, too."""
        if not isinstance(servers, dict):
            return servers
        return {name: {} if server is None else server for name, server in servers.items()}

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"no time zone {zone!r}: expected a name such as Europe/Berlin") from None
        return zone

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        for pool, names in self.pools.items():
            if pool in self.servers:
                raise WrongAt(f"{pool!r} is a pool and a server", "pools", pool)
            for place, name in enumerate(names):
                if name not in self.servers:
                    raise WrongAt(unknown("server", name, self.servers), "pools", pool, place)
        for number, reservation in enumerate(self.reserved):
            for place, name in enumerate(reservation.servers):
                if name not in self.servers and name not in self.pools:
                    said = unknown("server or pool", name, (*self.servers, *self.pools))
                    raise WrongAt(said, "reserved", number, "servers", place)
        for name in self.idle.baseline_mib:
            if name not in self.servers:
                raise WrongAt(unknown("server", name, self.servers), "idle", "baseline_mib", name)
        return self

    def room_of(self, server: str) -> RoomSpec:
        """What a container may use of a server: as said of it, and else of all."""
        return self.servers[server].room.over(self.room)

    def members(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The servers that these names of servers and pools stand for; all of them for none.

        Raises:
            KeyError: There is no server or pool of a name.
        """
        if not names:
            return tuple(self.servers)
        found = [each for name in names for each in (self.pools.get(name) or (name,))]
        for each in found:
            if each not in self.servers:
                raise KeyError(each)
        return tuple(dict.fromkeys(found))
