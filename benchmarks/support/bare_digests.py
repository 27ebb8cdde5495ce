"""The bare loop of benchmarks/planning.py, in a process that imports nothing else.

python -m benchmarks.support.bare_digests FILE FIRST STEP
"""

from __future__ import annotations

import hashlib
import sys

import pyarrow.parquet as pq

COLUMNS = ["sku", "title", "category", "price"]


def main() -> None:
    """Read every STEP-th row group, and digest each row."""
    first, step = int(sys.argv[2]), int(sys.argv[3])
    with pq.ParquetFile(sys.argv[1]) as file:
        for batch in file.iter_batches(row_groups=range(first, file.num_row_groups, step), columns=COLUMNS):
            titles, categories = (batch.column(name).to_pylist() for name in ("title", "category"))
            for title, category in zip(titles, categories, strict=True):
                hashlib.blake2b(f"{title} {category}".encode(), digest_size=16).digest()


if __name__ == "__main__":
    main()
