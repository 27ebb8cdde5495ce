"""A sample of the catalog as it is now: of every kind of row, and only of those that are as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.mill import Mill, items

from embedmill.errors import ReleaseIncompatible
from embedmill.gates.parity import Known
from embedmill.gates.source import source_sample
from embedmill.model import Encoder, ModelPackage


def sample(mill: Mill, rows: int) -> Known:
    pipeline = mill.open()
    return source_sample(mill.live(), pipeline.spec, pipeline.root, pipeline.home.store, rows)


def catalog() -> list[dict[str, Any]]:
    rows = items(400)
    rows[7]["title"] = ""
    rows[8]["title"] = "long " * 200
    rows[9]["title"] = "größe 🍎 \x01\x02"
    return rows


def test_shortest_longest_and_strangest_are_in_it(mill: Mill) -> None:
    mill.run(catalog())
    found = sample(mill, 40)
    titles = found.rows.column("title").to_pylist()
    assert len(titles) == 40
    assert {"", "long " * 200, "größe 🍎 \x01\x02"} <= set(titles)


def test_its_vectors_are_those_of_its_rows(mill: Mill) -> None:
    mill.run(catalog())
    found = sample(mill, 40)
    with Encoder.load(ModelPackage.open(mill.live().model_folder)) as encoder:
        np.testing.assert_allclose(encoder.encode(found.rows).vectors_ND, found.stored, atol=1e-5)


def test_rows_that_changed_or_came_since_are_not_in_it(mill: Mill) -> None:
    mill.run(items(100))
    mill.write([{**row, "title": f"new {row['sku']}"} for row in items(50)] + items(150)[50:])
    titles = sample(mill, 200).rows.column("title").to_pylist()
    assert titles
    assert {int(title.removeprefix("item ")) for title in titles} <= set(range(50, 100))


def test_a_catalog_of_which_nothing_is_as_it_was_is_an_error(mill: Mill) -> None:
    mill.run(items(20))
    mill.write([{**row, "title": "new"} for row in items(20)])
    with pytest.raises(ReleaseIncompatible, match=r"none of \d+ items of the catalog is as it was"):
        sample(mill, 10)


def test_images_are_compared_by_what_they_are_now(tmp_path: Path) -> None:
    import pyarrow as pa
    from tests.decoding.pictures import encoded, noise
    from tests.models import tiny_image_package

    schema = pa.schema([("sku", pa.string()), ("image", pa.string())])
    settings = {"catalog": {"source": "items.parquet", "id": "sku", "images": "pictures"}}
    mill = Mill(tmp_path, tiny_image_package(tmp_path / "model"), schema, settings=settings)
    (tmp_path / "pictures").mkdir()
    for number in range(12):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(encoded(noise(20, 20, seed=number)))
    mill.run([{"sku": f"s{n}", "image": f"{n}.png"} for n in range(12)])
    changed = encoded(noise(30, 30, seed=99))
    (tmp_path / "pictures" / "3.png").write_bytes(changed)
    found = sample(mill, 12).rows.column("image").to_pylist()
    assert len(found) == 11
    assert changed not in found
