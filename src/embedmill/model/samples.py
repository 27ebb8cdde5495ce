"""Rows made up from what an encoder declares: what imported models are tried on, and their goldens."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from PIL import Image

from embedmill.model.inputs import canonical_columns
from embedmill.model.package import ModelPackage
from embedmill.model.vocabulary import Vocabulary
from embedmill.spec import (
    AnyInput,
    BooleanInput,
    BytesInput,
    CategoriesInput,
    CategoryInput,
    EncoderInputs,
    ImageInput,
    NumberInput,
    StringInput,
    TextInput,
)

TEXTS = (
    "a",
    "?",
    "red apple",
    "Running shoes",
    "RUNNING SHOES",
    "Stainless steel water bottle, 750 ml, double wall, keeps drinks cold for 24 hours",
    "crème brûlée – naïve café",
    "İstanbul'dan kırmızı ayakkabı",
    "赤いりんご 🍎",
    "تفاحة حمراء",
    "x" * 300,
    "The quick brown fox jumps over the lazy dog. " * 40,
)
"""One token, long beyond truncation, accents, other scripts."""
NUMBERS = (0.0, 1.0, 2.0, 19.99, 10.0, 100.0, 0.5, 3.0, 1000.0, -0.25, 12345.0, 1e6)
"""Models of integers do without the fractions."""
ABSENT = "embedmill: no such value"
SIZES = ((64, 48), (48, 64), (1, 1), (96, 12), (33, 33), (40, 30))
MODES = ("RGB", "L", "RGBA", "P", "LA", "1")
ROTATED = 6
"""EXIF's name for a camera that was held upright."""

Column: TypeAlias = tuple[pa.DataType, Sequence[Any]]


def sample_rows(package: ModelPackage, encoder: str) -> pa.RecordBatch:
    """Rows for an encoder, as many as `TEXTS`: known, unknown and missing values, where it allows those.

    Raises:
        ModelError: The package has no such encoder, or a damaged vocabulary.
    """
    inputs = package.inputs(encoder)
    columns = {}
    for number, (field, kind) in enumerate(_strictest(inputs).items()):
        type_, values = _sample(kind, package, alone=len(inputs.root) == 1)
        shift = number * 5 if isinstance(kind, TextInput | StringInput) else number
        columns[field] = pa.array([values[(row + shift) % len(values)] for row in range(len(TEXTS))], type_)
    rows = pa.record_batch(columns)
    _, empty = canonical_columns(inputs, rows)
    return rows.filter(pa.array(~empty))


def _strictest(inputs: EncoderInputs) -> Mapping[str, AnyInput]:
    """Of the inputs that read a column the one that allows least; anything can stand in a text."""
    order = (BytesInput, ImageInput, CategoriesInput, CategoryInput, BooleanInput, NumberInput)
    kinds = [spec.kind for spec in inputs.root.values()]
    ranked = sorted(kinds, key=lambda kind: order.index(type(kind)) if type(kind) in order else len(order))
    return {field: next(kind for kind in ranked if field in kind.fields) for field in inputs.fields}


def _sample(kind: AnyInput, package: ModelPackage, *, alone: bool) -> Column:
    match kind:
        case TextInput() | StringInput():
            return pa.string(), TEXTS
        case ImageInput():
            return pa.binary(), [*pictures(), *_if(not alone and kind.missing == "zeros", None)]
        case BytesInput():
            return pa.binary(), [*photos(), *_if(kind.missing == "empty", None)]
        case CategoryInput():
            known = _known(package, kind.vocabulary)
            unknown = _if(kind.unknown != "reject", ABSENT)
            return pa.string(), [*known, *unknown, *_if(kind.missing != "reject", None)]
        case CategoriesInput():
            return _sample_lists(kind, _known(package, kind.vocabulary))
        case NumberInput():
            return pa.float64(), [*NUMBERS, *_if(kind.missing != "reject", None)]
        case BooleanInput():
            return pa.bool_(), [True, False, *_if(kind.missing != "reject", None)]


def _if(allowed: bool, value: Any) -> list[Any]:
    return [value] if allowed else []


def _known(package: ModelPackage, vocabulary: str) -> list[str]:
    """At most eight values, from the first to the last."""
    values = [value for value in Vocabulary.load(package.path(vocabulary)).values.to_pylist() if value]
    places = sorted({round(place) for place in np.linspace(0, len(values) - 1, 8)})
    return [values[place] for place in places]


def _sample_lists(kind: CategoriesInput, known: Sequence[str]) -> Column:
    separator = kind.separator
    usable = [
        value for value in known if separator is None or (separator not in value and value.strip() == value)
    ]
    lists: list[list[str] | None] = [usable[start : start + size] for size in (1, 2, 8) for start in (0, 1)]
    lists += [[*usable[:1], ABSENT]] if kind.unknown != "reject" else []
    lists += [[], None] if kind.missing == "empty" else []
    allowed = [each for each in lists if each or kind.missing == "empty"] or [[ABSENT]]
    if separator is None:
        return pa.list_(pa.string()), allowed
    return pa.string(), [None if each is None else separator.join(each) for each in allowed]


def pictures() -> list[bytes]:
    """PNG files of several sizes and kinds of pixels; one is rotated by EXIF."""
    made = [_png(size, mode) for size, mode in zip(SIZES, MODES, strict=True)]
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    return [*made, _png((48, 32), "RGB", exif=exif)]


def photos() -> list[bytes]:
    """JPEG files of several sizes."""
    return [_saved(_drawn(size), "JPEG", quality=90) for size in SIZES]


def _png(size: tuple[int, int], mode: str, **options: Any) -> bytes:
    picture = _drawn(size)
    if mode in ("RGBA", "LA"):
        picture.putalpha(Image.linear_gradient("L").resize(size))
    return _saved(picture.convert(mode), "PNG", **options)


def _drawn(size: tuple[int, int]) -> Image.Image:
    """Waves of a colour each."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    waves: list[Callable[[Any], Any]] = [np.sin, np.cos, np.sin]
    colours = [wave(x / (5 + 2 * at) + y / (7 + at)) for at, wave in enumerate(waves)]
    return Image.fromarray(((np.stack(colours, axis=2) + 1) * 127.5).astype(np.uint8))


def _saved(picture: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()
