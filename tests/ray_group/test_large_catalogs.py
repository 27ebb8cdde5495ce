"""Large catalogs on unequal nodes: the digest is the local engine's, and shares follow what each node can do.

The demo's catalog needs what `make demo` is made of, too: `make environment-demo environment-ray`, then
`PYTHONPATH=$(echo .venv/demo/lib/python3*/site-packages) .venv/ray/bin/python -m pytest
tests/ray_group/test_large_catalogs.py --soak -s`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.demo import build_demo
from tests.support.mill import Mill, items
from tests.support.ray_cluster import NodeSetup, RayCluster

from embedmill import Pipeline

NODES = ("whole", "half")
ROWS = 50_000
ROWS_FOR_SPEED = 400_000
"""So many that what a node can do shows, and not which of them began first."""


@dataclass
class Unequal:
    """A cluster of two nodes, the second of which shares its core with a program that takes half of it."""

    cluster: RayCluster

    def section(self, root: Path, *families: str) -> dict[str, Any]:
        """`ray` of a pipeline.yaml whose workers are on these nodes."""
        return {
            "address": self.cluster.address,
            "token_file": str(self.cluster.token_file),
            "shared": [str(root)],
            "families": {name: {"labels": {"pool": name}, "memory_mib": 2048} for name in families},
        }


@pytest.fixture(scope="module")
def unequal(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unequal]:
    spinning = subprocess.Popen(["taskset", "--cpu-list", "1", sys.executable, "-c", "while True: pass"])
    try:
        with RayCluster(tmp_path_factory.mktemp("ray")) as cluster:
            for core, name in enumerate(NODES):
                cluster.join(NodeSetup(labels={"pool": name}, cores=[core]))
            with cluster.inside():
                yield Unequal(cluster)
    finally:
        spinning.kill()
        spinning.wait()


def run(document: dict[str, Any], file: Path) -> dict[str, Any]:
    file.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "embedmill", "run", str(file), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def digests(file: Path, folder: Path) -> tuple[str, str]:
    """Of what was published, and of what the local engine publishes."""
    there = Pipeline.from_file(file)
    change = {"engine": "local", "store": str(folder / "alone")}
    alone = Pipeline(there.spec.model_copy(update=change), there.root)
    alone.run()
    published, local = there.live(), alone.live()
    assert published is not None
    assert local is not None
    return published.content.content_digest, local.content.content_digest


def speed(report: dict[str, Any], worker: str) -> float:
    """Rows a second while it worked."""
    (share,) = [each for each in report["shares"] if each["worker"] == worker]
    return float(share["rows"] / share["seconds"])


def shares_together(file: Path) -> dict[str, float]:
    """Parts of the rows that were done from when on all worked: who began first is left out."""
    command = [sys.executable, "-m", "embedmill", "report", str(file), "--json"]
    shards = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["shards"]
    begun_s: dict[str, float] = {}
    for shard in shards:
        begun_s[shard["worker"]] = min(begun_s.get(shard["worker"], shard["begin_s"]), shard["begin_s"])
    rows = dict.fromkeys(begun_s, 0)
    for shard in shards:
        if shard["begin_s"] >= max(begun_s.values()):
            rows[shard["worker"]] += shard["rows"]
    return {worker: round(count / sum(rows.values()), 3) for worker, count in rows.items()}


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_fifty_thousand_items_are_shared_by_what_each_node_can_do(
    unequal: Unequal, tiny_model: Path, tmp_path: Path
) -> None:
    alone: dict[str, float] = {}
    for name in NODES:
        folder = tmp_path / name
        folder.mkdir()
        mill = Mill(folder, tiny_model)
        mill.write(items(ROWS_FOR_SPEED // 4))
        settings = {"engine": "ray", "ray": unequal.section(folder, name), "work": {"shard_rows": 100}}
        report = run({**mill.spec, **settings}, folder / "pipeline.yaml")
        alone[name] = speed(report, f"{name}-0")
    whole = alone["whole"] / sum(alone.values())
    for rows in (ROWS, ROWS_FOR_SPEED):
        folder = tmp_path / f"{rows}"
        folder.mkdir()
        mill = Mill(folder, tiny_model)
        mill.write(items(rows))
        settings = {"engine": "ray", "ray": unequal.section(folder, *NODES), "work": {"shard_rows": 100}}
        report = run({**mill.spec, **settings}, folder / "pipeline.yaml")
        shares = shares_together(folder / "pipeline.yaml")
        print(f"rows/s alone: {alone}, so the whole core's share is {whole:.3f}; of {rows}: {shares}")  # noqa: T201
        assert report["embedded"] == rows
        assert len(shares) == len(NODES), "speeds are shown, and asserted nowhere: machines are shared"
        published, local = digests(folder / "pipeline.yaml", folder)
        assert published == local


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_the_demos_catalog_with_minilm_is_that_of_a_local_run(unequal: Unequal, tmp_path: Path) -> None:
    demo = build_demo(tmp_path)
    document = {
        "name": "demo",
        "catalog": {"source": f"{demo}/catalog/*.parquet", "id": "id", "display": ["name", "category"]},
        "model": str(demo / "minilm"),
        "store": str(tmp_path / "mill"),
        "engine": "ray",
        "ray": unequal.section(tmp_path, *NODES),
        "work": {"shard_rows": 128},
    }
    report = run(document, tmp_path / "pipeline.yaml")
    print(report["shares"])  # noqa: T201 - shown by -s
    assert {each["worker"] for each in report["shares"]} == {"whole-0", "half-0"}
    published, local = digests(tmp_path / "pipeline.yaml", tmp_path)
    assert published == local
