"""What does Ray cost? Two nodes of one core each against two local workers, in turns, and Ray's own memory.

    make bench-ray        or: .venv/ray/bin/python -m benchmarks.on_ray [--items 20000] [--rounds 5] [--json]

Root only: nodes are network namespaces. A head without processors for actors and two nodes, each confined to
one core of this machine, are up all the time, also while the local workers compute: they cost the same both
times. Throughput is rows a second from a run's first commit to its last; so the starts of runs are beside the
point, which take seconds, are paid once a run, and are told as `begun`. Memory is the peak of the
proportional set size (PSS) of all processes in the nodes' namespaces but the workers, the process that speaks
to Ray among them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from benchmarks.memory import machine
from tests.models import tiny_text_package
from tests.support.ray_cluster import NodeSetup, RayCluster

WANTED = 0.90
SAMPLE_S = 0.5
SHARD_ROWS = 500
WORDS = ("lamp", "desk", "red", "small", "oak", "steel", "garden", "winter", "light", "round")


@dataclass(frozen=True)
class Round:
    """One run: rows a second between its first and last commit, seconds until the first, and of it all."""

    rows_per_s: float
    begun_s: float
    whole_s: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        tiny_text_package(root / "model", dimension=384, max_length=256)
        write_catalog(root / "items.parquet", options.items)
        with RayCluster(root) as cluster:
            for core in (0, 1):
                cluster.join(NodeSetup(cpus=1, cores=[core]))
            with cluster.inside(), sampling(cluster) as peaks:
                rounds = [
                    {engine: measure(root, cluster, engine, number) for engine in ("local", "ray")}
                    for number in range(options.rounds)
                ]
    ratios = [each["ray"].rows_per_s / each["local"].rows_per_s for each in rounds]
    if options.json:
        rows = [{engine: vars(found) for engine, found in each.items()} for each in rounds]
        report = {"machine": machine(), "rounds": rows, "ratios": ratios, "peak_mib": peaks}
        print(json.dumps({"schema": "bench-on-ray/1", **report}))
    else:
        show(rounds, ratios, peaks)
    return 0 if statistics.median(ratios) >= WANTED else 1


def write_catalog(file: Path, items: int) -> None:
    texts = [" ".join(WORDS[(n * step) % 10] for step in range(1, 30)) + f" {n}" for n in range(items)]
    columns = {"sku": [str(n) for n in range(items)], "title": texts, "category": ["all"] * items}
    pq.write_table(pa.table(columns), file)


def measure(root: Path, cluster: RayCluster, engine: str, number: int) -> Round:
    """One run with a store of its own, in a process of its own on the head."""
    folder = root / f"{engine}-{number}"
    folder.mkdir()
    document = {
        "name": "bench",
        "catalog": {"source": str(root / "items.parquet"), "id": "sku"},
        "model": str(root / "model"),
        "store": str(folder / "mill"),
        "engine": engine,
        "index": {"kind": "flat"},
        "work": {"shard_rows": SHARD_ROWS, "workers": 2},
        "ray": {
            "address": cluster.address,
            "token_file": str(cluster.token_file),
            "shared": [str(root)],
            "families": {"cpu": {"workers": 2, "memory_mib": 1024}},
        },
    }
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "embedmill", "run", str(folder / "pipeline.yaml"), "--json"]
    started_s, started = time.monotonic(), time.time()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    commits = sorted(each.stat().st_mtime for each in (folder / "mill").glob("bench/runs/*/commits/*.json"))
    rows = (len(commits) - 1) * SHARD_ROWS
    return Round(rows / (commits[-1] - commits[0]), commits[0] - started, time.monotonic() - started_s)


@contextlib.contextmanager
def sampling(cluster: RayCluster) -> Iterator[dict[str, float]]:
    """Peak MiB of `head`, `node` (the larger of the two), and `all` of Ray's processes, once left."""
    peaks: dict[str, float] = {"head": 0.0, "node": 0.0, "all": 0.0}
    over = threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_S):
            head, *nodes = (sum(map(own_mib, node.pids())) for node in cluster.nodes)
            for name, value in (("head", head), ("node", max(nodes)), ("all", head + sum(nodes))):
                peaks[name] = max(peaks[name], value)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    yield peaks
    over.set()
    thread.join()


def own_mib(pid: int) -> float:
    """MiB of a process of Ray's; 0 of Embedmill's, except of the one that speaks to Ray."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        if pid == os.getpid() or (
            "embedmill" in line and "engines.ray.connecting" not in line and "ray::" not in line
        ):
            return 0.0
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next(int(row.split()[1]) for row in rollup.splitlines() if row.startswith("Pss:")) / 1024


def show(rounds: list[dict[str, Round]], ratios: list[float], peaks: dict[str, float]) -> None:
    print(f"{machine()}\n\n{'engine':>7} {'rows/s':>8} {'begun s':>8} {'whole s':>8} {'of local':>9}")
    for each, ratio in zip(rounds, ratios, strict=True):
        for engine, found in each.items():
            shown = f"{ratio:9.3f}" if engine == "ray" else ""
            print(f"{engine:>7} {found.rows_per_s:>8.1f} {found.begun_s:>8.1f} {found.whole_s:>8.1f} {shown}")
    print(f"\nmedian of {len(ratios)}: {statistics.median(ratios):.3f} (wanted: >= {WANTED})")
    print("Ray's own peak MiB: " + ", ".join(f"{name} {value:.0f}" for name, value in peaks.items()))


if __name__ == "__main__":
    sys.exit(main())
