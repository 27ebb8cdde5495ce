"""Does a catalog in a database stream? Peak anonymous RSS of `plan`, by catalog size, for each driver.

    .venv/sql/bin/python -m benchmarks.databases [--items 100000 400000] [--json]

The items of benchmarks.memory, each with 1 KiB of bytes that nothing reads; PostgreSQL and SQLite.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from benchmarks.memory import FLAT, peak, write_catalog
from benchmarks.support.measuring import machine, not_run
from tests.models import tiny_text_package

NEEDED = ("adbc_driver_postgresql", "adbc_driver_sqlite", "sqlalchemy", "psycopg")
CREATE = "CREATE TABLE items (sku text, title text, category text, price double precision, unused {bytes})"
PIPELINE = """
name: databases
catalog: {{source: "{source}", id: sku, table: items, display: [title, price]}}
model: model
store: {store}
index: {{kind: flat}}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 400_000])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    if not all(find_spec(name) for name in NEEDED):
        return not_run("it needs the drivers of `make environment-sql`")
    from tests.sql_group.cluster import PASSWORD, programs, running

    folder = programs()
    if folder is None:
        return not_run("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    os.environ["PGPASSWORD"] = PASSWORD
    with running(folder) as cluster:
        rows = [row for items in options.items for row in measure(items, cluster)]
    drivers = list(dict.fromkeys(row["driver"] for row in rows))
    peaks = {name: [row["peak_mib"] for row in rows if row["driver"] == name] for name in drivers}
    ratios = {name: values[-1] / values[0] for name, values in peaks.items()}
    if options.json:
        print(
            json.dumps({"schema": "bench-databases/1", "machine": machine(), "rows": rows, "ratios": ratios})
        )
    else:
        show(rows, ratios)
    return 0 if max(ratios.values()) <= FLAT else 1


def show(rows: list[dict], ratios: dict[str, float]) -> None:
    print(f"{machine()}\n\n{'source':<20} {'items':>10} {'plan MiB':>10} {'plan s':>8}")
    for row in rows:
        print(f"{row['driver']:<20} {row['items']:>10,} {row['peak_mib']:>10.1f} {row['seconds']:>8.1f}")
    said = ", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items())
    print(f"\nlargest / smallest: {said} (flat: ≤ {FLAT})")


def measure(items: int, cluster) -> list[dict]:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        tiny_text_package(root / "model")
        write_catalog(root / "items.parquet", items)
        url = fill_postgresql(cluster, root / "items.parquet")
        fill_sqlite(root / "shop.db", root / "items.parquet")
        sources = {
            "parquet": "items.parquet",
            "postgresql": url,
            "postgresql+psycopg": url.replace("postgresql:", "postgresql+psycopg:"),
            "sqlite": "sqlite:///shop.db",
            "sqlite+pysqlite": "sqlite+pysqlite:///shop.db",
        }
        return [
            {"driver": driver, "items": items, **plan(root, driver, url)} for driver, url in sources.items()
        ]


def plan(root: Path, driver: str, source: str) -> dict:
    spec = PIPELINE.format(source=source, store=f"./mill-{driver}")
    if "://" not in source:
        spec = spec.replace("table: items, ", "")
    (root / "pipeline.yaml").write_text(spec)
    found = peak(["plan", str(root / "pipeline.yaml"), "--json"])
    found.pop("stdout")
    return found


def batches(file: Path):
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(5000):
            yield [(*row.values(), os.urandom(1024)) for row in batch.to_pylist()]


def fill_postgresql(cluster, file: Path) -> str:
    name = cluster.new_database()
    with cluster.connect(name) as connection, connection.cursor() as cursor:
        cursor.execute(CREATE.format(bytes="bytea"))
        with cursor.copy("COPY items FROM STDIN") as copy:
            for rows in batches(file):
                for row in rows:
                    copy.write_row(row)
    return cluster.url(name)


def fill_sqlite(file: Path, parquet: Path) -> None:
    with sqlite3.connect(file) as database:
        database.execute(CREATE.format(bytes="BLOB"))
        for rows in batches(parquet):
            database.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?)", rows)
    database.close()


if __name__ == "__main__":
    sys.exit(main())
