"""What a run on a cluster needs: families of images as the engine takes them, and places for loops.

pipeline.yaml `kubernetes` + images.yaml ─▶ families ─▶ places ─▶ the engine's Jobs
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.engines.kubernetes import Cluster, Family, KubernetesEngine, check_client
from embedmill.errors import SpecError
from embedmill.fleet.matching.frameworks import has_runtime
from embedmill.fleet.matching.labels import node_terms
from embedmill.spec import load_images_spec
from embedmill.store.opening import is_shared
from embedmill.types import Host, Look, Placement

if TYPE_CHECKING:
    from embedmill.spec import ImageSpec, ImagesSpec, PipelineSpec
    from embedmill.spec.kubernetes import FamilySpec, KubernetesSpec

GPU, TPU = "nvidia.com/gpu", "google.com/tpu"
TPU_NODE = "cloud.google.com/gke-tpu"


@dataclass(frozen=True)
class ClusterPlaces:
    """The workers of every family, in order, as a driver looks for them. The cluster finds nodes for them."""

    namespace: str
    families: Mapping[str, FamilySpec]
    devices: Mapping[str, str]
    refused: Mapping[str, str] = field(default_factory=dict)
    again_s: float | None = 300.0
    waits: bool = True

    def look(self, most: int, held: Collection[str]) -> Look:
        """Places for as many loops, none for those that run."""
        names = [
            (f"{name}-{number}", name)
            for name, family in self.families.items()
            if name in self.devices
            for number in range(family.workers)
        ]
        wanted = [(worker, name) for worker, name in names if worker not in held]
        return Look(tuple(self._place(*each) for each in wanted[:most]), self.refused)

    def _place(self, worker: str, name: str) -> Placement:
        family, device = self.families[name], self.devices[name]
        return Placement(
            worker,
            device=device,
            threads=family.cpus,
            host=Host(f"kubernetes/{self.namespace}", (), ""),
            image=name,
            type=family.tpu.accelerator if family.tpu else device,
        )


def cluster_engine(spec: PipelineSpec, root: Path) -> KubernetesEngine:
    """An engine for the pipeline's families; `root` is the folder that the spec's paths start from.

    Raises:
        SpecError: There is no section `kubernetes`, or images.yaml is missing or wrong.
        MissingExtra: The client is not installed.
    """
    section = settings(spec)
    check_client()
    return KubernetesEngine(cluster_of(section), families_of(section, root))


def places_on_cluster(
    spec: PipelineSpec, root: Path, store_url: str, runtimes: Collection[str]
) -> ClusterPlaces:
    """Places for a run's loops. `runtimes`: the kinds that can compute the model.

    Raises:
        SpecError: See `cluster_engine`; or no pod can open the store, or no family can compute the model.
    """
    section = settings(spec)
    check_store(section, store_url)
    images = load_images_spec(root / section.images)
    devices, refused = {}, {}
    for name, family in section.families.items():
        image = image_of(name, family, images)
        step = has_runtime(image, ("jax",) if family.tpu else runtimes)
        if step.passed and family.tpu and "jax" not in runtimes:
            refused[name] = "a TPU computes by jax, which the model has no runtime for"
        elif step.passed:
            devices[name] = "tpu" if family.tpu else image.device
        else:
            refused[name] = step.said
    if not devices:
        why = "; ".join(f"{name}: {words}" for name, words in refused.items())
        raise SpecError(f"engine kubernetes: no family can compute the model: {why}")
    return ClusterPlaces(
        section.namespace, section.families, devices, refused, again_s=spec.work.look_again_s
    )


def settings(spec: PipelineSpec, file: str = "the pipeline") -> KubernetesSpec:
    """The section. `file`: where the spec was read from, for people.

    Raises:
        SpecError: There is none.
    """
    if spec.kubernetes is None:
        raise SpecError(f"{file} says nothing of the cluster", hint="write `kubernetes: …`")
    return spec.kubernetes


def cluster_of(section: KubernetesSpec) -> Cluster:
    """What all Jobs have in common."""
    return Cluster(
        namespace=section.namespace,
        context=section.context,
        queue=section.queue,
        priority_class=section.priority_class,
        service_account=section.service_account,
        secret=section.secret,
        mounts=section.mounts,
        retries=section.retries,
        deadline_s=section.deadline_s,
        keep_s=section.keep_s,
        grace_s=section.grace_s,
    )


def families_of(section: KubernetesSpec, root: Path) -> dict[str, Family]:
    """What the pods of each image have in common, by the family's name.

    Raises:
        SpecError: images.yaml is missing or wrong, or has no such image, or none by a registry's digest.
    """
    images = load_images_spec(root / section.images)
    return {name: _family(name, family, images) for name, family in section.families.items()}


def image_of(name: str, family: FamilySpec, images: ImagesSpec) -> ImageSpec:
    """A family's image.

    Raises:
        SpecError: There is none of that name, or it is not pinned.
    """
    wanted = family.image or name
    image = images.images.get(wanted)
    if image is None:
        known = ", ".join(images.images)
        raise SpecError(
            f"kubernetes.families.{name}: no image {wanted!r} in images.yaml", hint=f"there are: {known}"
        )
    if "@" not in image.image:
        raise SpecError(
            f"image {wanted}: {image.image} is the id of an image that is somewhere already",
            hint="clusters need NAME@sha256:…, by which they can pull it",
        )
    return image


def check_store(section: KubernetesSpec, store_url: str) -> None:
    """Whether pods can open a store: a bucket, or a folder of a claim that they mount.

    Raises:
        SpecError: They cannot.
    """
    if not is_shared(store_url, section.mounts):
        raise SpecError(
            f"store {store_url}: pods cannot open it",
            hint="use a bucket such as s3://…; or name the claim that has it in `kubernetes.mounts`",
        )


def _family(name: str, family: FamilySpec, images: ImagesSpec) -> Family:
    image = image_of(name, family, images)
    labels, accelerators = dict(family.nodes), {}
    if family.tpu is not None:
        labels |= {
            f"{TPU_NODE}-accelerator": family.tpu.accelerator,
            f"{TPU_NODE}-topology": family.tpu.topology,
        }
        accelerators = {TPU: family.tpu.chips}
    elif image.device == "cuda":
        accelerators = {GPU: 1}
    return Family(
        name=name,
        image=image.image,
        command=image.command,
        cpus=family.cpus,
        memory_mib=family.memory_mib,
        disk_mib=family.disk_mib,
        accelerators=accelerators,
        node_labels=labels,
        node_terms=() if family.tpu else node_terms(image, name=family.image or name),
    )
