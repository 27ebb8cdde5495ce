"""One cell of the matrix, in a process of its own: embeds rows.arrow with one of a package's runtimes.

python -m benchmarks.matrix.cell FOLDER ENCODER COLUMN OUT
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from embedmill.model import Encoder, ModelPackage
from embedmill.spec import RuntimeSpec

PASSES = 3
WARM_ROWS = 32
TRITON_GROUP = Path(__file__).resolve().parents[2] / "tests" / "triton_group"


def main() -> None:
    """Embed, and write OUT.npy and OUT.json."""
    folder, name, column, out = Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])
    with pa.OSFile(str(folder / f"{name}.arrow")) as file:
        rows = pa.ipc.open_file(file).read_all().combine_chunks().to_batches()[0]
    package = ModelPackage.open(folder / "package")
    with served(column, folder), Encoder.load(package, name, using=section(package, name, column)) as encoder:
        encoder.encode(rows.slice(0, WARM_ROWS))
        seconds = []
        for _ in range(PASSES):
            started = time.perf_counter()
            encoded = encoder.encode(rows)
            seconds.append(time.perf_counter() - started)
        if encoded.rejected:
            sys.exit(f"{folder}: {len(encoded.rejected)} rows were rejected")
        found = {
            "version": encoder.runtime.version,
            "rows_per_second": rows.num_rows / statistics.median(seconds),
            "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
    np.save(out.with_suffix(".npy"), encoded.vectors_ND)
    out.with_suffix(".json").write_text(json.dumps(found))


def section(package: ModelPackage, encoder: str, column: str) -> RuntimeSpec:
    """The package's runtime of a column."""
    kind, _, variant = column.partition(", ")
    for found in package.spec.runtimes_for(encoder):
        if found.kind == kind and getattr(found, "xla", False) == (variant == "XLA"):
            return found
    sys.exit(f"{package.root}: no runtime for {column}")


@contextlib.contextmanager
def served(column: str, folder: Path) -> Iterator[None]:
    """With a Triton that serves MiniLM, where the column is `triton`."""
    if column != "triton":
        yield
        return
    sys.path.insert(0, str(TRITON_GROUP))
    from server import Triton, tokens

    inputs = tokens("input_ids", "attention_mask", "token_type_ids")
    server = Triton(folder / f"triton-{os.getpid()}")
    weights = folder / "package" / "model.onnx"
    server.add(
        "minilm",
        TRITON_GROUP / "models" / "minilm.py",
        weights,
        dimension=384,
        version=2,
        max_batch=64,
        inputs=inputs,
    )
    os.environ["EMBEDMILL_TRITON_URL"] = server.url("http")
    try:
        server.start()
        yield
    finally:
        server.stop()


if __name__ == "__main__":
    main()
