"""What do processes for decoding cost? Images a second against decoding in this process, by kind of image.

    python -m benchmarks.decoding [--seconds 4] [--json]

Each way decodes the same images to float32[3, 224, 224], in turns of a fraction of a second, so that a busy
machine slows all of them. What counts are the ratios.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from benchmarks.support.measuring import machine
from PIL import Image

from embedmill.decoding.images import decoded
from embedmill.model.images import ImageDecoder, normalized, recipe_of
from embedmill.spec import ImageInput

BATCH = 16
SPEC = ImageInput.model_validate(
    {"field": "photo", "resize": {"shorter": 256}, "crop": {"height": 224, "width": 224}}
)
Way = Callable[[Sequence[bytes]], object]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="a way and kind of image")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    one, two, small = ImageDecoder(children=1), ImageDecoder(children=2), ImageDecoder(thumbnails=96)
    ways: dict[str, Way] = {
        "in process": in_process,
        "1 child": lambda images: one.decode(images, SPEC),
        "2 children": lambda images: two.decode(images, SPEC),
        "1 child with thumbnails": lambda images: small.decode(images, SPEC),
    }
    rows = [{"images": kind, **measure(images, ways, options.seconds)} for kind, images in samples().items()]
    rows.append({"images": "a process starts, in s", "1 child": round(start_s(), 3)})
    for decoder in (one, two, small):
        decoder.close()
    if options.json:
        print(json.dumps({"schema": "bench-decoding/1", "machine": machine(), "rows": rows}))
    else:
        show(rows)
    return 0


def show(rows: list[dict]) -> None:
    print(f"{machine()}\n\n{'':<28} {'in process':>12} {'1 child':>10} {'2 children':>11} {'thumbnails':>11}")
    for row in rows[:-1]:
        base, one, two, small = (row[way] for way in list(row)[1:])
        print(f"{row['images']:<28} {base:>10.0f}/s {one:>10.2f} {two:>11.2f} {small:>11.2f}")
    print(f"\na process starts in {rows[-1]['1 child']} s")


def samples() -> dict[str, list[bytes]]:
    """Smooth noise: it compresses as photographs do."""
    return {
        "JPEG, 1600 x 1200": [picture(1600, 1200, "JPEG", seed) for seed in range(BATCH)],
        "JPEG, 500 x 500": [picture(500, 500, "JPEG", seed) for seed in range(BATCH)],
        "WEBP, 500 x 500": [picture(500, 500, "WEBP", seed) for seed in range(BATCH)],
        "PNG, 128 x 128": [picture(128, 128, "PNG", seed) for seed in range(BATCH)],
    }


def picture(width: int, height: int, kind: str, seed: int) -> bytes:
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
    stream = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(stream, kind)
    return stream.getvalue()


def in_process(images: Sequence[bytes]) -> object:
    height, width = recipe_of(SPEC).size
    made = (decoded(image, recipe_of(SPEC)) for image in images)
    return [normalized(np.frombuffer(one, np.uint8).reshape(height, width, 3), SPEC) for one in made]


def measure(images: Sequence[bytes], ways: dict[str, Way], seconds: float) -> dict:
    """Images a second in process, and the others' multiples of it: medians over turns."""
    for way in ways.values():
        way(images)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    until = time.monotonic() + seconds * len(ways)
    while time.monotonic() < until:
        for name, way in ways.items():
            started = time.perf_counter()
            way(images)
            rates[name].append(len(images) / (time.perf_counter() - started))
    base = np.array(rates["in process"])
    return {
        name: round(float(np.median(base if name == "in process" else np.array(found) / base)), 3)
        for name, found in rates.items()
    }


def start_s() -> float:
    """Until the first image of a new process is there; the median of five."""
    taken = []
    for _ in range(5):
        decoder = ImageDecoder()
        started = time.perf_counter()
        decoder.decode([picture(16, 16, "PNG", 0)], SPEC)
        taken.append(time.perf_counter() - started)
        decoder.close()
    return float(np.median(taken))


if __name__ == "__main__":
    sys.exit(main())
