"""The stage that all histories share."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.models import tiny_text_package
from tests.simulation.history import Stage, calm_digest, own_folders
from tests.simulation.promises import WatchedStore
from tests.support.mill import SCHEMA, items

from embedmill import Pipeline
from embedmill.world import WORLD

SPEC = """
name: simulated
catalog: {source: items.parquet, id: sku, display: [price]}
model: model
store: memory://simulation
gates: {quarantine: 1.0, empty: 1.0, churn: 1.0}
work: {shard_rows: 3, batch_tokens: 1}
index: {kind: flat}
compact_above: 0.4
goldens: 3
"""
"""Batches of one text each, so that a vector's bits do not depend on what else is computed with it."""


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build_stage(tmp_path_factory.mktemp("simulation"))


def build_stage(folder: Path) -> Stage:
    """The pipeline, its catalogs, and the content digest of a calm run on each."""
    tiny_text_package(folder / "model", dimension=4)
    (folder / "pipeline.yaml").write_text(SPEC)
    catalogs = [
        write(folder / f"catalog-{number}.parquet", rows) for number, rows in enumerate(catalogs_of())
    ]
    digests: list[str] = []
    stage = Stage(folder, catalogs, digests)
    for number in range(len(catalogs)):
        with own_folders():
            stage.feed(number)
            pipeline = Pipeline.from_file(folder / "pipeline.yaml")
            digests.append(calm_digest(pipeline, WatchedStore(pipeline.spec.name), WORLD))
    return stage


def write(file: Path, rows: list[dict[str, object]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file)
    return file


def catalogs_of() -> list[list[dict[str, object]]]:
    """Days of one catalog: more, fewer, edited, doubled."""
    first = items(7)
    edited = [{**row, "title": f"new {row['title']}"} if n % 3 == 0 else row for n, row in enumerate(first)]
    doubled = [{**row, "title": "the same"} if n % 2 else row for n, row in enumerate(items(9))]
    return [first, items(11), edited[:5], [*doubled, doubled[0]]]
