"""The section `ray` of pipeline.yaml: worker loops as actors of a Ray cluster."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from embedmill.spec.images import ImageName
from embedmill.spec.section import Section

IMAGE_LABEL, SERVER_LABEL = "embedmill.io/image", "embedmill.io/server"
"""Labels of nodes: the image that they run in, by its name in images.yaml; the server that they are on."""
GPU_MEMORY_LABEL = "embedmill.io/gpu-memory-mib"
"""Of a node whose server's owner says how much of its GPU's memory may be taken."""
CLIENT = "ray://"
ADDRESS = r"^(ray://)?([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}$"

FamilyName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$")]
FolderPath = Annotated[str, Field(pattern=r"^/[^\s:]+$")]
LabelName = Annotated[
    str, Field(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")
]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")]
Amount = Annotated[float, Field(gt=0)]


class RayFamilySpec(Section):
    """Workers that need the same of a node: an actor each."""

    image: ImageName | None = Field(
        default=None,
        description="The image that its nodes run in, by its name in images.yaml: nodes whose label "
        f"`{IMAGE_LABEL}` says so. Absent: any node with Embedmill.",
    )
    workers: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto"] = Field(
        default="auto", description="Actors, at most; `auto`: as many as the nodes hold that are there."
    )
    cpus: int = Field(default=1, ge=1, description="Processors and threads of an actor.")
    gpus: Literal[0, 1] = Field(default=0, description="GPUs of an actor.")
    accelerator: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9._-]{1,63}$", description="Ray's accelerator type, such as T4."
    )
    resources: dict[str, Amount] = Field(
        default_factory=dict, description="Other resources of Ray, such as {TPU: 4}, of an actor."
    )
    labels: dict[LabelName, LabelValue] = Field(
        default_factory=dict, description="Labels that its nodes must have."
    )
    memory_mib: int = Field(
        default=4096, ge=256, description="Memory of an actor's worker, which is ended if it takes more."
    )

    @field_validator("resources")
    @classmethod
    def _no_resource_twice(cls, resources: dict[str, float]) -> dict[str, float]:
        named = {"CPU": "cpus", "GPU": "gpus", "memory": "memory_mib"}
        for name in resources:
            if name in named:
                raise ValueError(f"{name}: say it by `{named[name]}`")
        return resources


class RaySpec(Section):
    """Where and how worker loops run as actors."""

    address: str = Field(
        pattern=ADDRESS,
        description="HOST:PORT of the head, where this machine is a node of the cluster; ray://HOST:10001 "
        "from elsewhere. Never found by itself.",
    )
    token_file: str | None = Field(
        default=None, description="The file with the cluster's token; needed unless the host is loopback."
    )
    families: dict[FamilyName, RayFamilySpec] = Field(
        min_length=1, description="Workers by what they need, in the order in which they get shards."
    )
    images: str = Field(default="images.yaml", description="The images.yaml, for families with an `image`.")
    namespace: str = Field(
        default="embedmill", pattern=r"^[A-Za-z0-9._-]{1,63}$", description="Ray's namespace of the actors."
    )
    shared: tuple[FolderPath, ...] = Field(
        default=(), description="Folders that all nodes have under the same path, such as a network disk."
    )

    @model_validator(mode="after")
    def _no_open_cluster(self) -> Self:
        if self.token_file is None and not is_loopback(host_of(self.address)):
            raise ValueError(
                f"`token_file` is needed: whoever reaches {self.address} without a token runs what they like "
                "on every node (CVE-2023-48022)"
            )
        return self


def host_of(address: str) -> str:
    """The host of an address, without brackets."""
    return address.removeprefix(CLIENT).rpartition(":")[0].strip("[]")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, and nobody else can be it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
