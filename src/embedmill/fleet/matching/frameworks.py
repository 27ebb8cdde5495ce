"""Frameworks: does the toolkit that images.yaml declares fit the releases that it declares?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.fleet.matching.steps import Step
from embedmill.fleet.matching.tables import tables
from embedmill.fleet.matching.versions import dotted, parsed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from embedmill.spec.images import ImageSpec


def has_runtime(image: ImageSpec, runtimes: Collection[str]) -> Step:
    """Whether one of the runtimes that can compute the model is in the image; any, where none is named."""
    found = [f"{kind} {image.runtimes[kind]}" for kind in runtimes if kind in image.runtimes]
    if found or not runtimes:
        return Step(True, f"it has {', '.join(found) or 'runtimes of its own'}")
    has = ", ".join(image.runtimes)
    return Step(False, f"the model needs {' or '.join(sorted(runtimes))}, and the image has {has}")


def built_with(image: ImageSpec, cuda: tuple[int, int]) -> Iterator[Step]:
    """Of each framework, whether a release is built with the image's major version of CUDA: only warns."""
    for kind, version in image.runtimes.items():
        try:
            release = tables().framework(kind, parsed(version))
        except ValueError:
            release = None
        if release is None:
            continue
        cudnn = f" and cuDNN {release.cudnn}" if release.cudnn else ""
        said = f"{kind} {version} is built with CUDA {' or '.join(release.cuda)}{cudnn}"
        fits = any(parsed(each)[0] == cuda[0] for each in release.cuda)
        yield Step(True, said, "" if fits else f"{said}, and the image has CUDA {dotted(cuda)}")
