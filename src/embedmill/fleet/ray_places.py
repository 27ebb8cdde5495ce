"""What a run on a Ray cluster needs: families as the engine takes them, and places for loops on its nodes.

pipeline.yaml `ray` (+ images.yaml) ─▶ families ─▶ what do nodes hold now? ─▶ places ─▶ the engine's actors
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.engines.ray import Connection, Family, Node, RayEngine, capacity, lacking
from embedmill.errors import EngineUnavailable, SpecError
from embedmill.fleet.borrowing import lending_of
from embedmill.fleet.matching.frameworks import has_runtime
from embedmill.spec import load_images_spec
from embedmill.spec.ray import IMAGE_LABEL
from embedmill.store.credentials import lent_environment
from embedmill.store.opening import is_shared
from embedmill.types import Host, Look, Placement

if TYPE_CHECKING:
    from embedmill.release.layout import Home
    from embedmill.spec import ImageSpec, PipelineSpec
    from embedmill.spec.ray import RayFamilySpec, RaySpec

LOOK_S = 10.0
"""How often nodes are counted, at most: one small question, and nobody on a node is asked."""
TPU = "TPU"


@dataclass(frozen=True)
class RayPlaces:
    """The workers of every family, in order, as a driver looks for them. Ray finds nodes for them."""

    namespace: str
    families: Mapping[str, RayFamilySpec]
    needs: Mapping[str, Family]
    devices: Mapping[str, str]
    nodes: Callable[[], Sequence[Node]]
    refused: Mapping[str, str] = field(default_factory=dict)
    again_s: float | None = LOOK_S
    waits: bool = True

    def look(self, most: int, held: Collection[str]) -> Look:
        """Places for as many loops, none for those that run; and which families no node can hold.

        A family with a number of workers has them all: where nodes are missing, Ray's autoscaler sees that.
        """
        try:
            nodes = self.nodes()
        except EngineUnavailable as error:
            return Look((), {**self.refused, "cluster": error.message})
        names, passed_over = [], dict(self.refused)
        for name in self.devices:
            workers = self.families[name].workers
            count = capacity(self.needs[name], nodes) if workers == "auto" else workers
            names += [(f"{name}-{number}", name) for number in range(count)]
            if why := lacking(self.needs[name], nodes):
                passed_over[name] = why
        wanted = [(worker, name) for worker, name in names if worker not in held]
        return Look(tuple(self._place(*each) for each in wanted[:most]), passed_over)

    def _place(self, worker: str, name: str) -> Placement:
        family, device = self.families[name], self.devices[name]
        return Placement(
            worker,
            device=device,
            threads=family.cpus,
            host=Host(f"ray/{self.namespace}", (), ""),
            image=name,
            type=family.accelerator or device,
        )


def ray_engine(spec: PipelineSpec, home: Home, root: Path) -> RayEngine:
    """An engine for the pipeline's families; `root` is the folder that the spec's paths start from.

    Raises:
        SpecError: There is no section `ray`, or its token or images.yaml is missing or wrong.
    """
    section = ray_settings(spec)
    lending = lending_of(spec)
    return RayEngine(
        connection_of(section, root),
        families_of(section, images_of(section, root)),
        lambda: lent_environment(home.store.url, home.pipeline, lending),
    )


def places_on_ray(
    spec: PipelineSpec, root: Path, store_url: str, runtimes: Collection[str], engine: RayEngine
) -> RayPlaces:
    """Places for a run's loops. `runtimes`: the kinds that can compute the model.

    Raises:
        SpecError: See `ray_engine`; or no node can open the store, or no family can compute the model.
    """
    section = ray_settings(spec)
    check_shared(section, store_url)
    images = images_of(section, root)
    devices, refused = {}, {}
    for name, family in section.families.items():
        image = images.get(name)
        why = _cannot_compute(family, image, runtimes)
        if why:
            refused[name] = why
        else:
            devices[name] = _device(family, image)
    if not devices:
        words = "; ".join(f"{name}: {why}" for name, why in refused.items())
        raise SpecError(f"engine ray: no family can compute the model: {words}")
    return RayPlaces(
        section.namespace,
        section.families,
        families_of(section, images),
        devices,
        engine.nodes,
        refused,
        again_s=min(LOOK_S, spec.work.look_again_s),
    )


def check_cluster(spec: PipelineSpec, home: Home, root: Path, runtimes: Collection[str]) -> None:
    """Ask the cluster for its nodes, once.

    Raises:
        SpecError: See `places_on_ray`.
        MissingExtra, EngineRefused, EngineUnavailable: Ray is not installed, says no, or cannot be reached.
    """
    engine = ray_engine(spec, home, root)
    try:
        places_on_ray(spec, root, home.store.url, runtimes, engine)
        lent_environment(home.store.url, home.pipeline, lending_of(spec))
        engine.nodes()
    finally:
        engine.stop()


def ray_settings(spec: PipelineSpec) -> RaySpec:
    """The section.

    Raises:
        SpecError: There is none.
    """
    if spec.ray is None:
        raise SpecError("engine ray: nothing is said of the cluster", hint="write `ray: …`")
    return spec.ray


def connection_of(section: RaySpec, root: Path) -> Connection:
    """How the cluster is reached.

    Raises:
        SpecError: The file with its token cannot be read, or is empty.
    """
    token_file = None
    if section.token_file is not None:
        file = root / Path(section.token_file).expanduser()
        try:
            empty = not file.read_text().strip()
        except (OSError, ValueError) as error:
            raise SpecError(
                f"ray.token_file: {file} cannot be read: {getattr(error, 'strerror', error)}"
            ) from None
        if empty:
            raise SpecError(f"ray.token_file: {file} is empty")
        token_file = str(file)
    return Connection(section.address, token_file, section.namespace)


def images_of(section: RaySpec, root: Path) -> dict[str, ImageSpec]:
    """The images of families that name one, by the family's name.

    Raises:
        SpecError: images.yaml is missing or wrong, or has no such image.
    """
    named = {name: family.image for name, family in section.families.items() if family.image is not None}
    if not named:
        return {}
    images = load_images_spec(root / section.images).images
    for name, image in named.items():
        if image not in images:
            raise SpecError(
                f"ray.families.{name}: no image {image!r} in {section.images}",
                hint=f"there are: {', '.join(images)}",
            )
    return {name: images[image] for name, image in named.items()}


def families_of(section: RaySpec, images: Mapping[str, ImageSpec]) -> dict[str, Family]:
    """What the actors of each family need, by its name."""
    return {
        name: Family(
            name,
            cpus=family.cpus,
            gpus=family.gpus,
            accelerator=family.accelerator,
            resources=family.resources,
            labels={**family.labels, **({IMAGE_LABEL: family.image} if family.image else {})},
            memory_mib=family.memory_mib,
            command=images[name].command if name in images else (),
        )
        for name, family in section.families.items()
    }


def check_shared(section: RaySpec, store_url: str) -> None:
    """Whether nodes can open a store: a bucket, or a folder that all of them have.

    Raises:
        SpecError: They cannot.
    """
    if not is_shared(store_url, section.shared):
        raise SpecError(
            f"store {store_url}: is a folder of this machine, which other nodes cannot open",
            hint="use a bucket such as s3://…; or, if all nodes have that folder, name it in `ray.shared`",
        )


def _device(family: RayFamilySpec, image: ImageSpec | None) -> str:
    if TPU in family.resources:
        return "tpu"
    if image is not None:
        return image.device
    return "cuda" if family.gpus else "cpu"


def _cannot_compute(family: RayFamilySpec, image: ImageSpec | None, runtimes: Collection[str]) -> str:
    if image is not None:
        step = has_runtime(image, ("jax",) if TPU in family.resources else runtimes)
        if not step.passed:
            return step.said
        if image.device == "cuda" and not family.gpus:
            return "its image computes on a GPU: set `gpus: 1`"
    if TPU in family.resources and "jax" not in runtimes:
        return "a TPU computes by jax, which the model has no runtime for"
    return ""
