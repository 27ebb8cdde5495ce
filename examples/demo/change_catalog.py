"""Another day: changes about 1 % of the demo's catalog, in place, and prints what it did.

python examples/demo/change_catalog.py demo/catalog --seed 1
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from catalog_changes import Day, change
from catalog_files import held_back_file, part_files, read_items, write_items, write_parts
from emoji_items import Item


def main() -> int:
    """Change the catalog; print the changes."""
    arguments = _arguments()
    folder: Path = arguments.folder
    files = part_files(folder)
    if not files:
        print(f"{folder}: no catalog here; build_catalog.py makes one.", file=sys.stderr)
        return 1
    held_back = held_back_file(folder)
    day = change(read_items(files), read_items([held_back]), seed=arguments.seed, share=arguments.share)
    write_items(held_back, day.held_back)
    write_parts(folder, day.catalog, len(files))
    print(json.dumps(document(day)) if arguments.json else describe(day))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Change a small share of the demo's catalog.")
    parser.add_argument("folder", type=Path, help="where build_catalog.py wrote it, such as demo/catalog")
    parser.add_argument(
        "--seed", type=int, default=1, help="equal seeds change an equal catalog alike (%(default)s)"
    )
    parser.add_argument(
        "--share", type=float, default=0.01, help="share of the items to change (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the changes as one JSON document")
    return parser.parse_args()


def describe(day: Day) -> str:
    """Every change, a line each."""
    lines = [f"renamed  {after.id}  {before.name} -> {after.name}" for before, after in day.renamed]
    lines += [
        f"moved    {after.id}  {after.name}: {before.category} -> {after.category}"
        for before, after in day.moved
    ]
    lines += [f"deleted  {item.id}  {item.name}" for item in day.deleted]
    lines += [f"added    {item.id}  {item.name}" for item in day.added]
    lines.append(
        f"{day.changes} changes in {len(day.catalog):,} items: {len(day.renamed)} renamed, "
        f"{len(day.moved)} moved (shown only: no vector depends on it), "
        f"{len(day.deleted)} deleted, {len(day.added)} added"
    )
    return "\n".join(lines)


def document(day: Day) -> dict[str, Any]:
    """The same for programs."""

    def ids(items: tuple[Item, ...]) -> list[str]:
        return [item.id for item in items]

    return {
        "schema": "demo-changes/1",
        "items": len(day.catalog),
        "renamed": ids(tuple(after for _, after in day.renamed)),
        "moved": ids(tuple(after for _, after in day.moved)),
        "deleted": ids(day.deleted),
        "added": ids(day.added),
    }


if __name__ == "__main__":
    sys.exit(main())
