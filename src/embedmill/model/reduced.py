"""What decoding JPEGs at a reduced scale does to vectors, measured on drawn ones: a package's tolerance."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, ImageDraw

from embedmill.decoding.recipe import Recipe
from embedmill.errors import ModelError
from embedmill.model.encoder import Encoder
from embedmill.model.goldens import cosines
from embedmill.model.images import recipe_of
from embedmill.model.samples import sample_rows
from embedmill.spec import ImageInput

TIMES = (2.0, 3.3, 8.0)
"""Sides of drawn pictures, in pixels that the declaration needs at least: at half, half and an eighth."""
LONGEST_SIDE = 2048
"""Of drawn pictures, unless it is too short for them to be reduced: one is 50 MB while it is drawn."""
GRAIN = 8.0
"""Standard deviation of a sensor's noise, of 255."""


def reduced_cosine(encoder: Encoder) -> float | None:
    """The lowest cosine between vectors of drawn JPEGs that were decoded at a reduced scale, and whole.

    None where no input declares it, or the encoder refuses the rows that are made up for it.
    """
    if not any(feed.spec.reduced for feed in encoder.binding.images):
        return None
    rows = _rows(encoder)
    reduced, whole = encoder.encode(rows), _whole(encoder).encode(rows)
    kept = np.setdiff1d(np.arange(rows.num_rows), [*reduced.rejected, *whole.rejected])
    if not len(kept):
        return None
    return float(cosines(reduced.vectors_ND[kept], whole.vectors_ND[kept]).min())


def check_reduced(encoder: Encoder, found: float | None) -> ModelError | None:
    """The error that `reduced_cosine` is where the declared tolerance, the strictest, is not kept."""
    wanted = max((feed.spec.reduced_cosine or 0.0 for feed in encoder.binding.images), default=0.0)
    if found is None or found >= wanted:
        return None
    return ModelError(
        f"{encoder.package.root}: encoder {encoder.name!r}: JPEGs at a reduced scale get vectors with a "
        f"cosine of {found:.6f} to those of whole ones, below reduced_cosine: {wanted:g}",
        hint="raise `reduced`, so that more pixels are kept; or lower reduced_cosine, or leave both out",
    )


def _whole(encoder: Encoder) -> Encoder:
    """The same, but it decodes every image whole."""
    without = {"reduced": None, "reduced_cosine": None}
    images = [replace(feed, spec=feed.spec.model_copy(update=without)) for feed in encoder.binding.images]
    return replace(encoder, binding=replace(encoder.binding, images=images))


def _rows(encoder: Encoder) -> pa.RecordBatch:
    """Rows of a declaration whose images are JPEGs that are large enough to be reduced."""
    rows = sample_rows(encoder.package, encoder.name)
    for spec in encoder.package.inputs(encoder.name).root.values():
        if isinstance(spec.kind, ImageInput):
            files = list(jpegs(recipe_of(spec.kind)))
            for number, field in enumerate(spec.kind.fields):
                turned = itertools.islice(itertools.cycle(files), number, number + rows.num_rows)
                at = rows.schema.get_field_index(field)
                rows = rows.set_column(at, field, pa.array(list(turned), pa.binary()))
    return rows


def jpegs(recipe: Recipe) -> Iterator[bytes]:
    """JPEG files of several kinds and sizes that such a recipe reduces."""
    width, height = recipe.resized((1, 1))
    for times, draw in itertools.product(TIMES, DRAWINGS):
        least = recipe.reduced or 1.0
        scale = min(times * least, max(TIMES[0] * least, LONGEST_SIDE / max(width, height)))
        size = max(8, round(width * scale)), max(8, round(height * scale))
        stream = io.BytesIO()
        Image.fromarray(_grained(draw(size))).save(stream, "JPEG", quality=90)
        yield stream.getvalue()


Drawn = npt.NDArray[np.float32]
"""float32[H, W, 3], 0 to 255."""


def _grained(drawn: Drawn) -> npt.NDArray[np.uint8]:
    grained = np.random.default_rng(0).standard_normal(drawn.shape, dtype=np.float32)
    grained *= GRAIN
    grained += drawn
    return np.clip(grained, 0, 255, out=grained).astype(np.uint8)


def _texts(size: tuple[int, int]) -> Drawn:
    """Dark lines of letters on white, as on packages."""
    picture = Image.new("RGB", size, (250, 250, 245))
    pen, step = ImageDraw.Draw(picture), max(1, size[1] // 16)
    for line, top in enumerate(range(0, size[1], step)):
        pen.text(
            (line * 3, top), "Lorem ipsum 0123456789 " * 8, fill=(20, 30 + 8 * line % 200, 90), font_size=step
        )
    return np.asarray(picture, np.float32)


def _shapes(size: tuple[int, int]) -> Drawn:
    """Plain shapes with sharp edges, some of them thin."""
    picture = Image.new("RGB", size, (236, 232, 228))
    pen, (width, height) = ImageDraw.Draw(picture), size
    for at in range(12):
        left, top = width * at / 14, height * (at * 5 % 12) / 14
        colour = (at * 53 % 256, at * 97 % 256, at * 31 % 256)
        pen.ellipse((left, top, left + width / 5, top + height / 4), fill=colour)
        pen.line((0, top, width, left * height / width), fill=colour[::-1], width=1 + at % 3)
    return np.asarray(picture, np.float32)


def _clouds(size: tuple[int, int]) -> Drawn:
    """Noise of every wavelength, as in photographs: halves as strong where it is twice as fine."""
    random, made = np.random.default_rng(1), np.full((size[1], size[0], 3), 128.0, dtype=np.float32)
    noise = np.empty_like(made)
    for level in range(1, 9):
        coarse = random.normal(0.0, 1.0, (2**level, 2**level, 3)).clip(-2, 2) * 63 + 127
        layer = Image.fromarray(coarse.clip(0, 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
        np.subtract(np.asarray(layer), 127.0, out=noise, dtype=np.float32)
        noise *= 2.0 ** (1 - level)
        made += noise
    return made


def _stripes(size: tuple[int, int]) -> Drawn:
    """Waves that grow finer to the right, as of cloth."""
    x = np.arange(size[0], dtype=np.float32)[None, :] / size[0]
    y = np.arange(size[1], dtype=np.float32)[:, None] / size[1]
    made = np.empty((size[1], size[0], 3), dtype=np.float32)
    for colour, turn in enumerate((1.0, 0.5, -0.7)):
        made[:, :, colour] = 128.0 + 90.0 * np.sin(120 * x * x + 40 * y * turn)
    return made


DRAWINGS: tuple[Callable[[tuple[int, int]], Drawn], ...] = (_texts, _shapes, _clouds, _stripes)
