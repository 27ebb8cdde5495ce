"""Goldens: raw inputs that give their vectors again, whoever embeds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import yaml
from tests.every_input import png
from tests.models import tiny_image_package, tiny_text_package
from tests.support.mill import SCHEMA, Mill, items

from embedmill import Release, embed
from embedmill.release.goldens import read_goldens


def goldens(release: Release) -> dict[str, pa.Table]:
    """By encoder."""
    files = [Path(entry.path) for entry in release.content.goldens]
    return {file.name.split(".")[0]: read_goldens(release.folder / file) for file in files}


def vectors_in(table: pa.Table, column: str) -> npt.NDArray[np.float32]:
    flat = table.column(column).combine_chunks().flatten().to_numpy()
    found: npt.NDArray[np.float32] = flat.reshape(len(table), -1)
    return found


def assert_replay(release: Release) -> None:
    """Each golden, embedded by the release's own model, gives its vector."""
    for encoder, table in goldens(release).items():
        replayed = embed(table, release.model_folder, encoder=encoder, column="replayed")
        cosines = np.einsum("nd,nd->n", vectors_in(replayed, "_vector"), vectors_in(replayed, "replayed"))
        assert (cosines >= 0.999999).all()


def titles(release: Release) -> set[str]:
    return set(goldens(release)["item"].column("title").to_pylist())


def test_every_declared_encoder_has_goldens_that_replay(mill: Mill) -> None:
    mill.settings = {"goldens": 8}
    mill.run(items(50))
    release = mill.live()
    found = goldens(release)
    assert set(found) == {"item", "query_text"}
    assert 8 <= len(found["item"]) <= 10
    assert len(set(found["item"].column("_fingerprint").to_pylist())) == len(found["item"])
    assert_replay(release)


def test_goldens_are_items_vectors_as_they_were_published(mill: Mill) -> None:
    mill.run(items(20))
    release = mill.live()
    by_title = dict(zip(release.to_arrow().column("title").to_pylist(), range(20), strict=True))
    published = release.to_numpy()[1]
    table = goldens(release)["item"]
    for title, vector in zip(table.column("title").to_pylist(), vectors_in(table, "_vector"), strict=True):
        assert vector.tobytes() == published[by_title[title]].tobytes()


def test_a_query_encoder_declared_as_that_of_items_has_their_vectors(tmp_path: Path) -> None:
    mill = Mill(tmp_path, tiny_image_package(tmp_path / "model"))
    mill.schema = pa.schema([("sku", pa.string()), ("image", pa.binary())])
    mill.settings = {"goldens": 8, "catalog": {"source": "items.parquet", "id": "sku"}}
    mill.run([{"sku": f"s{seed}", "image": png(seed)} for seed in range(20)])
    found = goldens(mill.live())
    assert set(found) == {"item", "query_image"}
    assert found["query_image"].equals(found["item"].slice(0, 8).select(["image", "_fingerprint", "_vector"]))
    assert_replay(mill.live())


def test_a_query_encoder_that_sees_the_texts_of_items_has_their_vectors(mill: Mill) -> None:
    mill.settings = {"goldens": 8}
    mill.run(items(20))
    found = {encoder: table.slice(0, 8) for encoder, table in goldens(mill.live()).items()}
    texts = [f"{row['title']}. {row['category']}" for row in found["item"].to_pylist()]
    assert found["query_text"].column("query").to_pylist() == texts
    assert found["query_text"].column("_vector").equals(found["item"].column("_vector"))
    assert_replay(mill.live())


@pytest.mark.parametrize("declared", [{"template": "query: {query}"}, {"max_length": 3}])
def test_a_query_encoder_that_sees_something_else_has_vectors_of_its_own(
    mill: Mill, tmp_path: Path, declared: Mapping[str, Any]
) -> None:
    mill.model = tiny_text_package(tmp_path / "other")
    file = mill.model / "model.yaml"
    spec = yaml.safe_load(file.read_text())
    spec["encoders"]["query_text"]["input_ids"]["text"] |= declared
    file.write_text(yaml.safe_dump(spec))
    mill.settings = {"goldens": 8}
    mill.run(items(20))
    found = {encoder: vectors_in(table, "_vector")[:8] for encoder, table in goldens(mill.live()).items()}
    assert not np.isclose(found["query_text"], found["item"]).all(axis=1).any()
    assert_replay(mill.live())


def test_the_shortest_and_the_longest_inputs_are_among_them(mill: Mill) -> None:
    mill.settings = {"goldens": 8}
    rows: list[Mapping[str, Any]] = [
        {"sku": f"s{n}", "title": "x" * (n + 1), "category": "c"} for n in range(60)
    ]
    mill.run(rows)
    assert {"x", "xx", "x" * 59, "x" * 60} <= titles(mill.live())


def test_old_goldens_stay_while_their_vectors_live_so_that_drift_shows(mill: Mill) -> None:
    mill.settings = {"goldens": 8, "compact_above": 1.0}
    mill.run(items(30))
    before = titles(mill.live())
    mill.run(items(40))
    assert before <= titles(mill.live())
    assert len(titles(mill.live())) <= 10
    mill.settings = {"goldens": 8, "compact_above": 0.0}
    mill.run(items(10, start=30))
    assert titles(mill.live()) <= {f"item {n}" for n in range(30, 40)}
    assert_replay(mill.live())


def test_another_encoder_has_goldens_of_its_own(mill: Mill, tmp_path: Path) -> None:
    mill.run(items(10))
    mill.model = tiny_text_package(tmp_path / "other", seed=5)
    mill.run()
    assert_replay(mill.live())


def test_goldens_of_a_column_whose_type_changed_are_those_of_the_new_type(mill: Mill) -> None:
    mill.run([{"sku": "a", "title": "5", "category": "x"}, {"sku": "b", "title": "6", "category": "x"}])
    mill.schema = SCHEMA.set(1, pa.field("title", pa.int64()))
    mill.run([{"sku": "a", "title": 5, "category": "x"}, {"sku": "c", "title": 7, "category": "x"}])
    table = goldens(mill.live())["item"]
    assert table.schema.field("title").type == pa.int64()
    assert_replay(mill.live())


@pytest.mark.parametrize("count", [1, 2, 300])
def test_there_are_as_many_as_there_are_contents_and_not_too_many(mill: Mill, count: int) -> None:
    mill.settings = {"goldens": 64, "work": {"shard_rows": 20}}
    mill.run(items(count))
    assert min(count, 64) <= len(goldens(mill.live())["item"]) <= min(count, 96)


@pytest.mark.parametrize("wanted", [1, 4])
def test_few_goldens_are_refreshed_too(mill: Mill, wanted: int) -> None:
    mill.settings = {"goldens": wanted}
    for count in (10, 12, 14):
        mill.run(items(count))
    assert mill.live().content.goldens
