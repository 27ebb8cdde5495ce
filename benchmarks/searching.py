"""How much does `Release.search` add to FAISS, how much does it find, and how fast is the first answer?

    python -m benchmarks.searching                  20,000 items, with indexes all the same
    python -m benchmarks.searching --full           10^6 items, which `benchmarks.refresh --full` makes, too
    python -m benchmarks.searching --items 100000 [--queries 500] [--rounds 3] [--json]

The release has a base and a delta segment: 1 % of its items have changed. Bare FAISS searches the same
index files with the same effort, and compares the vectors of a segment that has none (IndexFlatIP), both
on as many threads as FAISS sees fit, one segment after the other, where `Release.search` has the delta
compared by a second thread meanwhile. It neither masks dead rows nor says which items were found. Queries
are texts that no item has, one at a time. The ways take turns every few queries, so that other work on the
machine slows all of them; each gets all queries, but never those that the others get around then, whose
vectors would be in the processor's cache. An answer after a stamped open is that of a new process, from the
start of opening on; that from the start of Python is shown as well. The hashing open is one without a
stamp: its files are in the page cache.

The release and its refresh are kept in build/bench and found again, so that a second run begins at once; the
graph of 10^6 takes 10 to 20 minutes on two cores. Delete the folder to build it anew, such as after a change
of how graphs are built.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.refresh import live_release, prepared, refreshed
from benchmarks.support.finding import exact_rows, recall
from benchmarks.support.measuring import Findings, Spread, Verdict, seconds_of, warned
from benchmarks.support.words import Words

from embedmill.release.reader import Release
from embedmill.release.search import search_effort

RECALL, OF_FAISS, ANSWER_S = 0.98, 1.2, 2.0
FAR_BLOCK, K, TURN = 10**6, 10, 10
FEWEST = 6 * TURN
"""Queries. Each of three ways gets a query at least two turns after another had it."""
SMALL_EXACT_BELOW = 100
"""So that the delta of a small release has an index, too."""
FIRST = """
import json, sys, time
began = time.perf_counter()
import numpy as np
from embedmill.release.reader import Release
imported = time.perf_counter()
release = Release.open(sys.argv[1])
opened = time.perf_counter()
release.search(vector=np.load(sys.argv[2])[0])
print(json.dumps([imported - began, opened - imported, time.perf_counter() - imported]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--full", action="store_true", help="10^6 items")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    if options.queries < FEWEST:
        parser.error(f"--queries: {FEWEST} at least, so that no way gets what another has just had")
    lines = warned()
    if options.full:
        print("10^6 items: building their graph takes 10 to 20 minutes, unless it is kept", file=sys.stderr)
    folder = prepared(10**6, None) if options.full else prepared(options.items, SMALL_EXACT_BELOW)
    release = of_both_days(folder)
    words = Words()
    queries = words.vectors(words.tokens(FAR_BLOCK, options.queries))
    figures = searched(release, queries, options.rounds) | answered(release, queries, options.rounds)
    return Findings("bench-searching/1", figures, [*lines, *shown(figures)], judged(figures)).tell(
        as_json=options.json
    )


def of_both_days(folder: Path) -> Release:
    """What an earlier refresh published, or else what one publishes now."""
    if (folder / "again").is_dir():
        release = live_release(folder)
        if len(release.content.segments) > 1:
            return release
    refreshed(folder)
    return live_release(folder)


def searched(release: Release, queries_QD: np.ndarray[Any, Any], rounds: int) -> dict[str, Any]:
    """Medians of a query's milliseconds, and what was found."""
    ways: dict[str, Callable[[np.ndarray[Any, Any]], object]] = {
        "Release.search": lambda query: release.search(vector=query, k=K),
        "nearest rows alone": lambda query: release.searcher.nearest(query[None], K),
        "bare FAISS": bare(release),
    }
    found = query_ms(ways, queries_QD, rounds)
    rows = release.searcher.nearest(queries_QD, K).rows_QK
    return {
        "items": release.content.counts.total,
        "segments": [
            [
                segment.rows,
                segment.live,
                search_effort(release.content, segment) if segment.index else None,
                segment.recall,
            ]
            for segment in release.content.segments
        ],
        "ms": found,
        "recall": recall(rows, exact_rows(release, queries_QD, K)),
    }


def query_ms(
    ways: dict[str, Callable[[np.ndarray[Any, Any]], object]], queries_QD: np.ndarray[Any, Any], rounds: int
) -> dict[str, Spread]:
    """Of one query, the median of each round; the first round warms files and does not count."""
    shift = len(queries_QD) // len(ways)
    own = [np.roll(queries_QD, number * shift, axis=0) for number in range(len(ways))]
    medians: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + rounds):
        took: dict[str, list[float]] = {name: [] for name in ways}
        for start in range(0, len(queries_QD), TURN):
            for (name, way), queries in zip(ways.items(), own, strict=True):
                took[name] += [seconds_of(partial(way, query)) for query in queries[start : start + TURN]]
        for name, seconds in took.items():
            medians[name].append(1000 * statistics.median(seconds))
    return {name: Spread.of(values[1:]) for name, values in medians.items()}


def bare(release: Release) -> Callable[[np.ndarray[Any, Any]], object]:
    """FAISS over all segments, and the best of what they give."""
    import faiss

    indexes = []
    for segment in release.content.segments:
        if segment.index is not None:
            effort = faiss.SearchParametersHNSW(efSearch=search_effort(release.content, segment))
            indexes.append((faiss.read_index(str(release.folder / segment.index.path)), effort))
            continue
        flat = faiss.IndexFlatIP(release.content.dimension)
        for part in release.segment_parts(segment):
            flat.add(np.ascontiguousarray(part.vectors_ND))
        indexes.append((flat, None))

    def search(query: np.ndarray[Any, Any]) -> object:
        found = [index.search(query[None], K, params=effort) for index, effort in indexes]
        scores = np.concatenate([scores for scores, _ in found], axis=1)[0]
        return np.argsort(-scores)[:K]

    return search


def answered(release: Release, queries_QD: np.ndarray[Any, Any], rounds: int) -> dict[str, Any]:
    """Seconds of new processes: importing, opening, and from then to the first answer."""
    with tempfile.TemporaryDirectory() as folder:
        query, cache = Path(folder) / "query.npy", Path(folder) / "cache"
        np.save(query, queries_QD[:1])

        def first() -> list[float]:
            run = [sys.executable, "-c", FIRST, str(release.folder), str(query)]
            environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
            done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
            found: list[float] = json.loads(done.stdout)
            return found

        hashing = first()
        stamped = [first() for _ in range(max(3, rounds))]
    return {
        "hashing_open_s": hashing[1],
        "imports_s": Spread.of(each[0] for each in stamped),
        "stamped_open_s": Spread.of(each[1] for each in stamped),
        "first_answer_s": Spread.of(each[2] for each in stamped),
    }


def shown(figures: dict[str, Any]) -> list[str]:
    """Lines for people."""
    segments = "; ".join(
        f"{rows:,} rows, {live:,} of them live, "
        + (f"HNSW with efSearch {effort} (measured recall {recall})" if effort else "exact")
        for rows, live, effort, recall in figures["segments"]
    )
    lines = [f"{figures['items']:,} items in segments of: {segments}", ""]
    lines += [f"  {name:<34}{spread!s:>28} ms" for name, spread in figures["ms"].items()]
    names = {
        "imports_s": "imports",
        "stamped_open_s": "stamped open",
        "first_answer_s": "stamped open and first answer",
    }
    lines += [f"  {name:<34}{figures[key]!s:>28} s" for key, name in names.items()]
    return [*lines, f"  {'hashing open':<34}{figures['hashing_open_s']:>28.3g} s"]


def judged(figures: dict[str, Any]) -> list[Verdict]:
    """Beside the bounds."""
    times = figures["ms"]["Release.search"].median / figures["ms"]["bare FAISS"].median
    return [
        Verdict(f"recall@{K} against exact", figures["recall"], RECALL),
        Verdict("Release.search, of bare FAISS's time", times, OF_FAISS, at_least=False),
        Verdict(
            "stamped open and first answer, s", figures["first_answer_s"].median, ANSWER_S, at_least=False
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
