"""Is the search any good? Twenty queries, written down before looking, against the live release.

    python examples/demo/search_quality.py demo/pipeline.yaml

A query is a hit when a right item is among its first five, skin-tone variants counted once; right ones are
marked. Ends with 1 when fewer than 16 are hits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
from quality import Found, Query, collapse, is_right, read_queries

from embedmill import EmbedmillError, Hit, Pipeline, Release

QUERIES = Path(__file__).with_name("queries.yaml")
TOP = 5
ENOUGH = 16
FETCH = 200  # one item has up to 25 skin-tone variants


def main() -> int:
    """Search all queries; print a line each, and the score."""
    arguments = _arguments()
    queries = read_queries(arguments.queries)
    try:
        release = Pipeline.from_file(arguments.pipeline).live()
        if release is None:
            print(f"{arguments.pipeline}: nothing is published yet; `make demo` does.", file=sys.stderr)
            return 1
        bases = read_bases(arguments.pipeline.parent / "catalog")
        hits = sum(report(query, search(release, query, bases)) for query in queries)
    except EmbedmillError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{hits} of {len(queries)}")
    return 0 if hits >= ENOUGH else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the search quality of the demo's live release.")
    parser.add_argument("pipeline", type=Path, nargs="?", default=Path("demo/pipeline.yaml"))
    parser.add_argument("--queries", type=Path, default=QUERIES, help="queries and their right answers")
    return parser.parse_args()


def read_bases(catalog: Path) -> dict[str, str]:
    """Each item's id without its skin tone."""
    tables = [pq.read_table(file, columns=["id", "base"]) for file in sorted(catalog.glob("*.parquet"))]
    return {row["id"]: row["base"] for table in tables for row in table.to_pylist()}


def search(release: Release, query: Query, bases: Mapping[str, str]) -> list[Found]:
    """The first items that the release finds, skin-tone variants collapsed."""
    hits = (_found(hit, bases) for hit in release.search(query.text, k=FETCH))
    return list(collapse(hits, TOP))


def _found(hit: Hit, bases: Mapping[str, str]) -> Found:
    name, subcategory = str(hit.fields["name"]), str(hit.fields["subcategory"])
    return Found(bases.get(str(hit.id), str(hit.id)), name, subcategory)


def report(query: Query, found: list[Found]) -> bool:
    """Print one query's line; right items have a star. True if it is a hit."""
    marked = [f"*{item.name}" if is_right(query, item) else item.name for item in found]
    hit = any(is_right(query, item) for item in found)
    print(f"{'hit ' if hit else 'MISS'}  {query.text:36}  {' | '.join(marked)}", flush=True)
    return hit


if __name__ == "__main__":
    sys.exit(main())
