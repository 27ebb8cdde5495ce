"""What does a daily refresh cost beside what any program must do? Time, memory, recall, vectors computed.

    python -m benchmarks.refresh                  10^6 items, searched exactly; the index at 100,000
    python -m benchmarks.refresh --full           the index at 10^6, too: 8 GB in build/bench, and an hour
    python -m benchmarks.refresh --items 100000 [--indexed 20000] [--rounds 3] [--json]

Texts of words, and 384 numbers each; the next day 1 % of the items have another text. The refresh runs in a
process of its own, from reading the spec to the log entry; its loops are processes, too. The floor is
pyarrow in one process: it reads the columns that the plan reads, and writes the release's items/ as Parquet
and the new segment's vectors as Arrow, from memory. What remains of the refresh without the model's and the
index's time is compared with it. The model's time is that of the same texts through the same encoder,
divided by the loops that ran. The index's full build is that of a first release; since that takes twenty
times as long as all else, what it costs to refresh is found on fewer items. Beside the seconds of each
stage are those that cores were busy, of all processes that ended in it: other work moves them less.
First releases are made once, in build/bench: of 10^6 items within some minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
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
    parser.add_argument("--items", type=int, default=10**6)
    parser.add_argument("--indexed", type=int, default=100_000, help="items of which there is an index")
    parser.add_argument("--full", action="store_true", help="an index of 10^6 items")
    parser.add_argument(
        "--exact-below", type=int, help="smaller segments have no index; default: embedmill's"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    lines = warned()
    indexed = prepared(10**6 if options.full else options.indexed, options.exact_below)
    folder = indexed if options.full else prepared(options.items, kind="flat")
    figures = measured(folder, options.rounds) | of_index(indexed, options.rounds)
    return Findings("bench-refresh/2", figures, [*lines, *shown(figures)], judged(figures)).tell(
        as_json=options.json
    )


def prepared(items: int, exact_below: int | None = None, *, kind: str = "hnsw") -> Path:
    """A folder with two days' catalogs and the first day's release; what is there already stays."""
    told = ["" if kind == "hnsw" else f"-{kind}", "" if exact_below is None else f"-{exact_below}"]
    folder = BUILT / f"refresh-{items}{''.join(told)}"
    index = {"kind": kind} | ({} if exact_below is None else {"exact_below": exact_below})
    words = Words()
    if not (folder / "model").is_dir():
        words.write_package(folder / "model")
    for day in (0, 1):
        words.write_catalog(folder / f"day-{day}.parquet", items, day=day)
        write_pipeline(folder, day=day, store="./again" if day else "./mill", index=index)
    if not (folder / "first.json").is_file():
        shutil.rmtree(folder / "mill", ignore_errors=True)  # of a try that was ended
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
    stages, cpu = (
        {name: Spread.of(each[kind][name] for each in said) for name in said[0][kind]}
        for kind in ("stages", "cpu")
    )
    rest = seconds["refresh"].median - seconds["the model"].median - stages[INDEX].median
    about: dict[str, Any] = json.loads((folder / "first.json").read_text())
    return about | {
        "stages": stages,
        "cpu": cpu,
        "seconds": seconds,
        "rest_s": rest,
        "computed": max(each["computed"] for each in said),
        "together_mib": Spread.of(run.together_mib for run in runs),
        "largest_mib": Spread.of(run.largest_mib for run in runs),
    }


def of_index(folder: Path, rounds: int) -> dict[str, Any]:
    """What refreshing an index takes, beside its full build, and what it finds."""
    about = json.loads((folder / "first.json").read_text())
    seconds = [json.loads(refreshed(folder).stdout)["stages"][INDEX] for _ in range(rounds)]
    build, refresh = about["first"]["stages"][INDEX], Spread.of(seconds)
    found = {"items": about["items"], "build_s": build, "refresh_s": refresh}
    return {"index": found | {"recall": recall_of(live_release(folder))}}


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
    index = figures["index"]
    lines = [f"{figures['items']:,} items, {figures['new_texts']:,} new texts", ""]
    lines += [f"  {'stage':<26}{'seconds':>26}{'of cores':>26}"]
    lines += [
        f"  {name:<26}{took!s:>26}{figures['cpu'][name]!s:>26}" for name, took in figures["stages"].items()
    ]
    rows = {
        **figures["seconds"],
        "neither model nor index": f"{figures['rest_s']:.3g}",
        f"index of {index['items']:,}": index["refresh_s"],
        "its full build": f"{index['build_s']:.3g}",
        "MiB of the largest process": figures["largest_mib"],
        "MiB of all together": figures["together_mib"],
        "vectors computed": figures["computed"],
    }
    return [*lines, "", *(f"  {name:<26}{value!s:>26}" for name, value in rows.items())]


def judged(figures: dict[str, Any]) -> list[Verdict]:
    """Beside the bounds."""
    seconds, index = figures["seconds"], figures["index"]
    of_texts = figures["computed"] / figures["new_texts"]
    rest = figures["rest_s"] / seconds["the floor"].median
    of_build = index["refresh_s"].median / index["build_s"]
    together = figures["together_mib"].highest
    return [
        Verdict("neither model nor index, of the floor", rest, FLOORS, at_least=False),
        Verdict(f"index of {index['items']:,}, of its full build", of_build, OF_BUILD, at_least=False),
        Verdict(f"recall@{K} of {QUERIES} queries", index["recall"], RECALL),
        Verdict("peak anonymous MiB, all processes together", together, MIB, at_least=False),
        Verdict("vectors computed, of the new texts: no more", of_texts, 1.0, at_least=False),
        Verdict("vectors computed, of the new texts: no fewer", of_texts, 1.0),
    ]


if __name__ == "__main__":
    sys.exit(main())
