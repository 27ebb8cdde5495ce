"""Is memory flat in the number of items? Peak anonymous RSS of `plan` and of one worker, by catalog size.

    python -m benchmarks.memory [--items 50000 500000] [--json]

Text items and a tiny model, so that what is measured is ours. Anonymous memory is sampled from
/proc/PID/status every 20 ms: mapped files do not count, they are the page cache's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.support.measuring import machine
from benchmarks.support.memory import ran
from tests.models import tiny_text_package

FLAT = 1.15
ROW_GROUP = 20_000
PIPELINE = """
name: memory
catalog: {source: items.parquet, id: sku, display: [title, price]}
model: model
store: ./mill
index: {kind: flat}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[50_000, 500_000])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    rows = [measure(items) for items in options.items]
    ratios = {stage: rows[-1][stage]["peak_mib"] / rows[0][stage]["peak_mib"] for stage in ("plan", "worker")}
    if options.json:
        report = {"schema": "bench-memory/1", "machine": machine(), "rows": rows, "ratios": ratios}
        print(json.dumps(report))
    else:
        show(rows, ratios)
    return 0 if max(ratios.values()) <= FLAT else 1


def show(rows: list[dict], ratios: dict[str, float]) -> None:
    print(f"{machine()}\n\n{'items':>10} {'plan MiB':>10} {'plan s':>8} {'worker MiB':>11} {'worker s':>9}")
    for row in rows:
        plan, worker = row["plan"], row["worker"]
        print(
            f"{row['items']:>10,} {plan['peak_mib']:>10.1f} {plan['seconds']:>8.1f} "
            f"{worker['peak_mib']:>11.1f} {worker['seconds']:>9.1f}"
        )
    print(f"\nlargest / smallest: plan {ratios['plan']:.3f}, worker {ratios['worker']:.3f} (flat: ≤ {FLAT})")


def measure(items: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tiny_text_package(root / "model")
        write_catalog(root / "items.parquet", items)
        (root / "pipeline.yaml").write_text(PIPELINE)
        plan = peak(["plan", str(root / "pipeline.yaml"), "--json"])
        run = json.loads(plan.pop("stdout"))["run"]
        url = f"{root / 'mill'}/memory/runs/{run}"
        worker = peak(["worker", "--run", url, "--name", "w0"])
        worker.pop("stdout")
        return {"items": items, "plan": plan, "worker": worker}


def write_catalog(file: Path, items: int) -> None:
    """Text of 40 to 200 characters; one item in 20 shares another's."""
    random = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(5000)])
    with pq.ParquetWriter(file, catalog_schema()) as writer:
        for start in range(0, items, ROW_GROUP):
            count = min(ROW_GROUP, items - start)
            titles = [" ".join(random.choice(words, size=random.integers(5, 25))) for _ in range(count)]
            titles[::20] = ["a shared title"] * len(titles[::20])
            ids = [f"sku-{number:09d}" for number in range(start, start + count)]
            columns = [ids, titles, ["category"] * count, random.random(count)]
            writer.write_table(pa.table(columns, schema=catalog_schema()))


def catalog_schema() -> pa.Schema:
    text = ["sku", "title", "category"]
    return pa.schema([*((name, pa.string()) for name in text), ("price", pa.float64())])


def peak(arguments: list[str]) -> dict:
    """Run a command; its peak anonymous RSS in MiB (of its largest process), seconds and stdout."""
    found = ran([sys.executable, "-m", "embedmill", *arguments])
    return {
        "peak_mib": round(found.largest_mib, 1),
        "seconds": round(found.seconds, 2),
        "stdout": found.stdout,
    }


if __name__ == "__main__":
    sys.exit(main())
