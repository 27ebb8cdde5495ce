"""The example's catalog: the demo's items with tags, those that training never sees, and labelled queries.

    python examples/tensorflow-two-tower/items.py two-tower

Reads the catalog that the demo's build_catalog.py made below the folder (`catalog/`), and writes `items/`,
the vocabularies, and `queries.jsonl` for the relevance gate.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HELD_OUT = 0.1
"""Share of the items that training never sees; skin-tone variants go together."""
SEED = 1


def read_catalog(folder: Path) -> pa.Table:
    """The demo's items, with `tags` (list of texts) and `held_out` (bool) beside their own columns."""
    files = sorted((folder / "catalog").glob("part-*.parquet"))
    if not files:
        raise SystemExit(f"{folder / 'catalog'}: no catalog here; examples/demo/build_catalog.py makes one")
    table = pa.concat_tables(pq.read_table(file) for file in files)
    rows = table.select(["category", "subcategory", "skin_tone"]).to_pylist()
    tags = pa.array([tags_of(**row) for row in rows], pa.list_(pa.string()))
    hidden = held_out(table["base"].to_pylist())
    return table.append_column("tags", tags).append_column("held_out", pa.array(hidden))


def tags_of(category: str, subcategory: str, skin_tone: bool) -> list[str]:
    """`food-fruit` in Food & Drink becomes drink, food, fruit."""
    words = re.findall(r"[a-z]+", f"{category} {subcategory}".lower())
    return sorted({*words, *(["skin", "tone"] if skin_tone else [])})


def held_out(bases: Sequence[str]) -> list[bool]:
    """Which items are held out, the same on every machine."""
    distinct = sorted(set(bases))
    chosen = set(random.Random(SEED).sample(distinct, round(len(distinct) * HELD_OUT)))
    return [base in chosen for base in bases]


def category_query(subcategory: str) -> str:
    """What a person types who looks for a kind of thing: `food-fruit` becomes `food fruit`."""
    return subcategory.replace("-", " ").replace("&", "and")


def misspelt(name: str, chance: random.Random) -> str:
    """A name as hasty people type it: two neighbouring letters change places."""
    at = chance.randrange(max(len(name) - 1, 1))
    return name[:at] + name[at : at + 2][::-1] + name[at + 2 :]


def labelled_queries(table: pa.Table) -> list[tuple[str, list[str]]]:
    """Each held-out item's name, with the ids of that name; each subcategory, with all that it has."""
    rows = table.select(["id", "name", "subcategory", "held_out"]).to_pylist()
    by_name: dict[str, list[str]] = defaultdict(list)
    by_kind: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        by_kind[category_query(row["subcategory"])].append(row["id"])
        if row["held_out"]:
            by_name[row["name"]].append(row["id"])
    return [*sorted(by_name.items()), *sorted(by_kind.items())]


def write_vocabulary(file: Path, values: Iterable[str]) -> None:
    """One value a line, sorted."""
    file.write_text("".join(f"{value}\n" for value in sorted(set(values))), encoding="utf-8")


def write_queries(file: Path, queries: Sequence[tuple[str, Sequence[str]]]) -> None:
    """As the relevance gate reads them."""
    lines = (
        json.dumps({"query": query, "relevant": list(ids)}, ensure_ascii=False) for query, ids in queries
    )
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def prepare(folder: Path) -> Mapping[str, int]:
    """Write everything; how much there is of it."""
    table = read_catalog(folder)
    (folder / "items").mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "items" / "items.parquet")
    queries = labelled_queries(table)
    write_queries(folder / "queries.jsonl", queries)
    export = folder / "export"
    export.mkdir(exist_ok=True)
    write_vocabulary(export / "categories.txt", table["category"].to_pylist())
    write_vocabulary(export / "tags.txt", (tag for tags in table["tags"].to_pylist() for tag in tags))
    return {"items": table.num_rows, "held out": sum(table["held_out"].to_pylist()), "queries": len(queries)}


def main() -> None:
    """Prepare a folder; say what it has."""
    parser = argparse.ArgumentParser(description="Make the example's catalog, vocabularies and queries.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("two-tower"))
    found = prepare(parser.parse_args().folder)
    print(", ".join(f"{count:,} {what}" for what, count in found.items()))


if __name__ == "__main__":
    main()
