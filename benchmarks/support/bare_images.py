"""Decoding alone, or the model alone, on one thread: prints images a second, and CPU seconds an image.

python -m benchmarks.support.bare_images decode|model PACKAGE PARQUET SECONDS
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from embedmill.decoding.images import decoded
from embedmill.model import Encoder, ModelPackage
from embedmill.model.images import normalized, recipe_of
from embedmill.spec import ImageInput

AT_ONCE = 16


def main() -> None:
    """Repeat it for so long, after one time that does not count."""
    kind, package, file, seconds = sys.argv[1:5]
    work = {"decode": decoding, "model": computing}[kind](ModelPackage.open(Path(package)), Path(file))
    work()
    rounds, began, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < float(seconds):
        work()
        rounds += 1
    images = rounds * AT_ONCE
    print(images / (time.perf_counter() - began), (time.process_time() - cpu) / images)


def decoding(package: ModelPackage, file: Path) -> Callable[[], object]:
    """From files' bytes to what the model gets, one after the other."""
    spec = image_input(package)
    images = pq.read_table(file, columns=["image"]).column("image").slice(0, AT_ONCE).to_pylist()
    recipe = recipe_of(spec)
    height, width = recipe.size

    def work() -> object:
        made = (np.frombuffer(decoded(image, recipe), np.uint8).reshape(height, width, 3) for image in images)
        return np.stack([normalized(pixels, spec) for pixels in made])

    return work


def computing(package: ModelPackage, _: Path) -> Callable[[], object]:
    """A batch of noise."""
    encoder = Encoder.load(package)
    height, width = recipe_of(image_input(package)).size
    (name,) = encoder.runtime.inputs
    pixels = np.random.default_rng(0).random((AT_ONCE, 3, height, width), np.float32)
    return lambda: encoder.runtime.run({name: pixels})


def image_input(package: ModelPackage) -> ImageInput:
    """The package's only input.

    Raises:
        SystemExit: It reads something else.
    """
    (found,) = package.inputs("item").root.values()
    if not isinstance(found.kind, ImageInput):
        raise SystemExit(f"{package.root}: reads no image")
    return found.kind


if __name__ == "__main__":
    main()
