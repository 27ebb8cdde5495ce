"""What does a daily refresh cost beside what any program must do? Time, memory, recall, vectors computed.

    python -m benchmarks.refresh                  20,000 items, of which the ratios say little
    python -m benchmarks.refresh --full           10^6 items: 8 GB in build/bench, and an hour
    python -m benchmarks.refresh --items 100000 --exact-below 500 [--rounds 3] [--json]

Texts of words, and 384 numbers each; the next day 1 % of the items have another text. The refresh runs in a
process of its own, from reading the spec to the log entry; its loops are processes, too. The floor is
pyarrow in one process: it reads the columns that the plan reads, and writes the release's items/ as Parquet
and the new segment's vectors as Arrow, from memory. What remains of the refresh without the model's and the
index's time is compared with it. The model's time is that of the same texts through the same encoder,
divided by the loops that ran. The index's full build is that of the first release.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.support.bare_digests import COLUMNS
from benchmarks.support.finding import exact_rows, recall
from benchmarks.support.measuring import Findings, Spread, Verdict, cores, in_turns, seconds_of, warned
from benchmarks.support.memory import Ran, ran
from benchmarks.support.stores import BUILT, linked, write_pipeline
from benchmarks.support.words import Words

from embedmill import Pipeline
from embedmill.model import Encoder, ModelPackage
from embedmill.release.reader import Release

FLOORS, OF_BUILD, RECALL, MIB = 4.0, 0.05, 0.98, 1024.0
INDEX = "build indexes"
QUERIES, FAR_BLOCK, K = 500, 10**6, 10


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--full", action="store_true", help="10^6 items")
    parser.add_argument(
        "--exact-below", type=int, help="smaller segments have no index; default: embedmill's"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    lines = warned()
    folder = prepared(10**6 if options.full else options.items, options.exact_below)
    figures = measured(folder, options.rounds)
    return Findings("bench-refresh/1", figures, [*lines, *shown(figures)], judged(figures)).tell(
        as_json=options.json
    )


def prepared(items: int, exact_below: int | None = None) -> Path:
    """A folder with two days' catalogs and the first day's release; what is there already stays."""
    folder = BUILT / f"refresh-{items}{'' if exact_below is None else f'-{exact_below}'}"
    words = Words()
    if not (folder / "model").is_dir():
        words.write_package(folder / "model")
    index = {"kind": "hnsw"} | ({} if exact_below is None else {"exact_below": exact_below})
    for day in (0, 1):
        words.write_catalog(folder / f"day-{day}.parquet", items, day=day)
        write_pipeline(folder, day=day, store="./again" if day else "./mill", index=index)
    if not (folder / "first.json").is_file():
        first = json.loads(staged(folder / "day-0.yaml").stdout)
        about = {"items": items, "new_texts": words.changed_texts(items), "first": first}
        (folder / "first.json").write_text(json.dumps(about))
    return folder


def staged(pipeline: Path) -> Ran:
    """Run it, stage by stage, in a process of its own."""
    return ran([sys.executable, "-m", "benchmarks.support.staged", str(pipeline)])


def refreshed(folder: Path) -> Ran:
    """The second day's run, on the first day's store."""
    linked(folder / "mill", folder / "again")
    return staged(folder / "day-1.yaml")


def live_release(folder: Path) -> Release:
    """What the refresh published."""
    release = Pipeline.from_file(folder / "day-1.yaml").live()
    if release is None:
        raise SystemExit(f"{folder}: the refresh has published nothing")
    return release


def measured(folder: Path, rounds: int) -> dict[str, Any]:
    """All figures; the first refresh warms the page cache and does not count."""
    shards = json.loads(refreshed(folder).stdout)["shards"]
    release = live_release(folder)
    floor, model, runs = Floor(folder, release), Model(folder, release), list[Ran]()

    def refresh() -> float:
        runs.append(refreshed(folder))
        return float(json.loads(runs[-1].stdout)["whole"])

    ways = {
        "refresh": refresh,
        "the floor": floor.seconds,
        "the model": lambda: model.seconds() / min(cores(), max(1, shards)),
    }
    seconds = in_turns(ways, rounds)
    said = [json.loads(run.stdout) for run in runs]
    stages = {name: Spread.of(each["stages"][name] for each in said) for name in said[0]["stages"]}
    rest = seconds["refresh"].median - seconds["the model"].median - stages[INDEX].median
    return json.loads((folder / "first.json").read_text()) | {
        "stages": stages,
        "seconds": seconds,
        "rest_s": rest,
        "computed": max(each["computed"] for each in said),
        "together_mib": Spread.of(run.together_mib for run in runs),
        "largest_mib": Spread.of(run.largest_mib for run in runs),
        "recall": recall_of(live_release(folder)),
    }


def recall_of(release: Release) -> float:
    """Of queries that are no item's text."""
    words = Words()
    queries = words.vectors(words.tokens(FAR_BLOCK, QUERIES))
    return recall(release.searcher.nearest(queries, K).rows_QK, exact_rows(release, queries, K))


class Floor:
    """What any program must read and write; what is written is in memory before."""

    def __init__(self, folder: Path, release: Release) -> None:
        self.folder = folder
        self.items = [pq.read_table(release.folder / entry.path) for entry in release.content.items]
        files = [release.folder / entry.path for entry in release.content.segments[-1].parts]
        self.vectors = [pa.ipc.open_file(file.read_bytes()).read_all() for file in files]

    def seconds(self) -> float:
        """Of reading and writing."""
        return seconds_of(self._work)

    def _work(self) -> None:
        target = self.folder / "floor"
        target.mkdir(exist_ok=True)
        with pq.ParquetFile(self.folder / "day-1.parquet") as catalog:
            for _ in catalog.iter_batches(columns=COLUMNS):
                pass
        for number, table in enumerate(self.items):
            pq.write_table(table, target / f"items-{number}.parquet", compression="zstd")
        for number, table in enumerate(self.vectors):
            file = str(target / f"vectors-{number}.arrow")
            with pa.OSFile(file, "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
                writer.write_table(table)


class Model:
    """The release's encoder, and one text of each vector of the newest segment."""

    def __init__(self, folder: Path, release: Release) -> None:
        first = len(release.table) - release.content.segments[-1].rows
        _, chosen = np.unique(release.item_rows, return_index=True)
        chosen = chosen[release.item_rows[chosen] >= first]
        items = pa.Table.from_batches(release.items(["title", "category"]))
        self.rows = items.take(pa.array(chosen)).combine_chunks().to_batches()[0]
        self.encoder = Encoder.load(ModelPackage.open(folder / "model"))

    def seconds(self) -> float:
        """Of embedding them on one thread."""
        return seconds_of(lambda: self.encoder.encode(self.rows))


def shown(figures: dict[str, Any]) -> list[str]:
    """Lines for people."""
    lines = [f"{figures['items']:,} items, {figures['new_texts']:,} new texts; seconds:", ""]
    rows = {**figures["stages"], **figures["seconds"], "neither model nor index": figures["rest_s"]}
    rows["index, full build"] = figures["first"]["stages"][INDEX]
    lines += [
        f"  {name:<26}{value if isinstance(value, Spread) else f'{value:.3g}'!s:>28}"
        for name, value in rows.items()
    ]
    return [*lines, f"  {'MiB of the largest process':<26}{figures['largest_mib']!s:>28}"]


def judged(figures: dict[str, Any]) -> list[Verdict]:
    """Beside the bounds."""
    seconds, build = figures["seconds"], figures["first"]["stages"][INDEX]
    of_texts = figures["computed"] / figures["new_texts"]
    rest = figures["rest_s"] / seconds["the floor"].median
    index = figures["stages"][INDEX].median / build
    together = figures["together_mib"].highest
    return [
        Verdict("neither model nor index, of the floor", rest, FLOORS, at_least=False),
        Verdict("the index, of its full build", index, OF_BUILD, at_least=False),
        Verdict(f"recall@{K} of {QUERIES} queries", figures["recall"], RECALL),
        Verdict("peak anonymous MiB, all processes together", together, MIB, at_least=False),
        Verdict("vectors computed, of the new texts: no more", of_texts, 1.0, at_least=False),
        Verdict("vectors computed, of the new texts: no fewer", of_texts, 1.0),
    ]


if __name__ == "__main__":
    sys.exit(main())
