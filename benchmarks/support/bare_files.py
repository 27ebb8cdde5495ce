"""Writing what a plan leaves, and nothing else: prints the seconds that it took.

python -m benchmarks.support.bare_files RUN TARGET FIRST STEP

Of the item files and shards in the run's folder every STEP-th is read, which does not count, and written to
TARGET.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def main() -> None:
    """A file of each suffix by its own writer."""
    run, target, first, step = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    seconds = 0.0
    for file in sorted([*run.glob("items/*.parquet"), *run.glob("frozen/*.arrow")])[first::step]:
        table = read(file)
        began = time.perf_counter()
        write(table, target / file.name)
        seconds += time.perf_counter() - began
    print(seconds)


def read(file: Path) -> pa.Table:
    """All of it, in memory of its own, in one piece."""
    if file.suffix == ".parquet":
        return pq.read_table(file).combine_chunks()
    with pa.OSFile(str(file)) as source:
        return pa.ipc.open_file(source).read_all().combine_chunks()


def write(table: pa.Table, file: Path) -> None:
    """As plans do: item files with zstd, shards as they are."""
    if file.suffix == ".parquet":
        pq.write_table(table, file, compression="zstd")
        return
    with pa.ipc.new_file(str(file), table.schema) as writer:
        writer.write_table(table)


if __name__ == "__main__":
    main()
