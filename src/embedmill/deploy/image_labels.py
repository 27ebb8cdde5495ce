"""The figures that choose an image, as its labels: written by a build, read back for images.yaml."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from embedmill.errors import SpecError
from embedmill.spec.images import ImageSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embedmill.deploy.worker_image import Variant

PREFIX = "embedmill."
REQUIRE = "NVIDIA_REQUIRE_"


def labels_of(variant: Variant, *, embedmill: str, base: str, ray: str | None = None) -> dict[str, str]:
    """What an image of a variant says of itself; lists are separated by spaces."""
    name, digest = base.split("@", 1)
    figures = {
        "runtimes": f"{variant.runtime}={variant.version.split('+')[0]}",
        "device": variant.device,
        "cuda": variant.cuda or "",
        "sass": " ".join(variant.sass),
        "ptx": " ".join(variant.ptx),
        "ray": ray or "",
    }
    return {
        "org.opencontainers.image.title": f"embedmill-{variant.name}",
        "org.opencontainers.image.version": embedmill,
        "org.opencontainers.image.base.name": name,
        "org.opencontainers.image.base.digest": digest,
        **{PREFIX + figure: value for figure, value in figures.items() if value},
    }


def entry_of(image: str, labels: Mapping[str, str], environment: Sequence[str]) -> ImageSpec:
    """What images.yaml has of an image, by its labels and the variables that NVIDIA's images have.

    Raises:
        SpecError: It has no such labels, or they say what cannot be.
    """
    said = {name.removeprefix(PREFIX): value for name, value in labels.items() if name.startswith(PREFIX)}
    if "runtimes" not in said:
        raise SpecError(
            f"{image}: has no label {PREFIX}runtimes",
            hint="it was not made by `embedmill images`: write its entry by hand",
        )
    variables = dict(each.split("=", 1) for each in environment if "=" in each)
    values = {
        "image": image,
        "runtimes": dict(each.partition("=")[::2] for each in said["runtimes"].split()),
        "device": said.get("device", "cuda"),
        "cuda": said.get("cuda"),
        "sass": said.get("sass", "").split(),
        "ptx": said.get("ptx", "").split(),
        "ray": said.get("ray"),
        "require": {name: value for name, value in variables.items() if name.startswith(REQUIRE)},
    }
    try:
        return ImageSpec.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        words = first["msg"].removeprefix("Value error, ")
        raise SpecError(f"{image}: label {PREFIX}{field}: {words}") from None
