"""The section `kubernetes` of pipeline.yaml: worker loops as Jobs of a cluster."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from embedmill.spec.images import ImageName
from embedmill.spec.section import Section

Label = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""A DNS-1123 label."""
FamilyName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$")]
Subdomain = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
"""A DNS-1123 subdomain, as most objects are named by."""
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")]
FolderPath = Annotated[str, Field(pattern=r"^/[^\s:]+$")]
PINNED = r"^[a-z0-9][a-zA-Z0-9._:/-]*@sha256:[0-9a-f]{64}$"


class TpuSpec(Section):
    """A TPU slice of one host, as Google's clusters have them."""

    accelerator: LabelValue = Field(description="Such as tpu-v5-lite-podslice.")
    topology: str = Field(pattern=r"^\d+(x\d+){1,2}$", description="Such as 2x2.")
    chips: int = Field(ge=1, description="Chips of a pod: all of its host.")


class FamilySpec(Section):
    """Workers of one image: a Job, whose indexes they are."""

    image: ImageName | None = Field(
        default=None, description="Its name in images.yaml; the family's own name where absent."
    )
    workers: int = Field(default=1, ge=1, le=10_000, description="Pods, at most: one GPU each.")
    cpus: int = Field(default=2, ge=1, description="Processors and threads of a pod.")
    memory_mib: int = Field(default=4096, ge=256, description="Memory of a pod.")
    disk_mib: int = Field(default=8192, ge=256, description="Disk of a pod, for the model and shards.")
    tpu: TpuSpec | None = Field(default=None, description="The TPU of a pod, instead of a GPU; for jax.")
    nodes: dict[str, LabelValue] = Field(
        default_factory=dict, description="Labels that its nodes must have, beside what the image needs."
    )


class NightlySpec(Section):
    """The CronJob that runs the pipeline, for `embedmill deploy batch`."""

    image: str = Field(pattern=PINNED, description="NAME@sha256:…, with Embedmill and the extra kubernetes.")
    schedule: str = Field(default="0 2 * * *", pattern=r"^\S+( \S+){4}$", description="When, as cron has it.")
    folder: FolderPath = Field(default="/pipeline", description="Where pipeline.yaml lies in its pod.")
    claim: Label | None = Field(
        default=None, description="The volume claim that has this folder; the image has it where absent."
    )
    cpus: int = Field(default=2, ge=1, description="Processors.")
    memory_mib: int = Field(default=4096, ge=256, description="Memory.")
    disk_mib: int = Field(default=20_480, ge=256, description="Disk, for the plan and the index.")


class KubernetesSpec(Section):
    """Where and how worker loops run as Jobs."""

    families: dict[FamilyName, FamilySpec] = Field(
        min_length=1, description="Workers by image, in the order in which they get shards to work on."
    )
    images: str = Field(default="images.yaml", description="The images.yaml with their facts.")
    namespace: Label = Field(default="default", description="Where Jobs are made.")
    context: str | None = Field(
        default=None, description="The context of the kubeconfig; its current one where absent."
    )
    queue: Label | None = Field(default=None, description="Kueue's LocalQueue for the Jobs.")
    priority_class: Subdomain = Field(default="embedmill-batch", description="The pods' PriorityClass.")
    service_account: Subdomain = Field(
        default="embedmill-worker", description="The pods' ServiceAccount; no pod gets its token."
    )
    secret: Subdomain | None = Field(
        default=None, description="The Secret with the variables that open the store; never read."
    )
    mounts: dict[FolderPath, Label] = Field(
        default_factory=dict, description="Folders that pods have, and the volume claims that have them."
    )
    ports: tuple[int, ...] = Field(
        default=(443,), description="What pods may ask beside names: where the store and images listen."
    )
    retries: int = Field(
        default=3, ge=0, le=100, description="How often a failed index is tried again by the cluster."
    )
    deadline_s: int = Field(
        default=86_400, ge=60, description="When a Job ends whose run nobody drives any more."
    )
    keep_s: int = Field(default=3600, ge=0, description="How long an ended Job stays to be looked at.")
    grace_s: int = Field(
        default=60, ge=1, le=3600, description="How long a pod may finish its batch when it must leave."
    )
    nightly: NightlySpec | None = Field(
        default=None, description="The CronJob that `embedmill deploy batch` renders."
    )

    @field_validator("ports")
    @classmethod
    def _ports_are_ports(cls, ports: tuple[int, ...]) -> tuple[int, ...]:
        if not all(0 < port < 65536 for port in ports):
            raise ValueError("ports are from 1 to 65535")
        return ports
