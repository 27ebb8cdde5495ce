"""Catalogs of images through the whole pipeline: bytes in a column, paths in a folder, keys in the store."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from tests.models import tiny_image_package
from tests.support.mill import Mill, quarantined

from embedmill import Release, embed
from embedmill.types import Reason
from embedmill.work import WorkerOptions, work

COLUMNS = {"bytes": pa.binary(), "paths": pa.string(), "keys": pa.string()}


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, size=(20, 24, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


class Pictures:
    """A catalog of pictures, kept in one of three ways."""

    def __init__(self, root: Path, kept_as: str) -> None:
        self.kept_as, self.root = kept_as, root
        schema = pa.schema([("sku", pa.string()), ("image", COLUMNS[kept_as])])
        self.mill = Mill(root, tiny_image_package(root / "model"), schema)
        places = {"bytes": {}, "paths": {"images": "pictures"}, "keys": {"images": "store:pictures"}}[kept_as]
        self.mill.settings["catalog"] = {"source": "items.parquet", "id": "sku", **places}

    def write(self, pictures: Mapping[str, bytes | None]) -> None:
        """The catalog has these pictures; None is an item without one."""
        self.mill.write(
            [{"sku": sku, "image": data and self._kept(sku, data)} for sku, data in pictures.items()]
        )

    def _kept(self, sku: str, data: bytes) -> bytes | str:
        """What the catalog says of it: its bytes, or a reference to where it is written."""
        if self.kept_as == "bytes":
            return data
        folder = self.root / ("mill/pictures" if self.kept_as == "keys" else "pictures")
        file = folder / f"{sku}.png"
        if not file.exists() or file.read_bytes() != data:
            folder.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            file.write_bytes(data)
        return file.name


@pytest.fixture(params=COLUMNS)
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Pictures:
    return Pictures(tmp_path, request.param)


def test_pictures_get_the_vectors_that_embed_gives(catalog: Pictures) -> None:
    pictures = {f"p{n}": picture(n) for n in range(9)}
    catalog.write(pictures)
    assert catalog.mill.run().computed == 9
    assert_vectors(catalog.mill.live(), pictures)


def test_a_corrupt_picture_is_quarantined_and_its_neighbours_are_unharmed(catalog: Pictures) -> None:
    pictures: dict[str, bytes | None] = {f"p{n}": picture(n) for n in range(6)}
    catalog.write(pictures | {"bad": b"no picture", "none": None})
    result = catalog.mill.run()
    assert (result.embedded, result.quarantined, result.empty) == (6, 1, 1)
    (lost,) = quarantined(catalog.mill.live())
    assert (lost["id"], lost["reason"]) == ("bad", Reason.IMAGE_INVALID)
    assert_vectors(catalog.mill.live(), pictures)


def test_the_next_run_computes_only_the_picture_that_changed(catalog: Pictures) -> None:
    pictures = {f"p{n}": picture(n) for n in range(6)}
    catalog.write(pictures)
    catalog.mill.run()
    pictures["p3"] = picture(33)
    catalog.write(pictures)
    result = catalog.mill.run()
    assert (result.computed, result.reused) == (1, 5)
    assert_vectors(catalog.mill.live(), pictures)


def test_a_picture_that_changes_between_plan_and_work_is_quarantined(tmp_path: Path) -> None:
    catalog = Pictures(tmp_path, "paths")
    pictures = {f"p{n}": picture(n) for n in range(4)}
    catalog.write(pictures)
    planned = catalog.mill.planned()
    file = tmp_path / "pictures" / "p2.png"
    file.write_bytes(picture(99))
    os.utime(file, ns=(1, 1))
    work(planned.home, planned.plan.run, WorkerOptions("here"))
    assert planned.run().quarantined == 1
    (lost,) = quarantined(catalog.mill.live())
    assert (lost["id"], lost["reason"]) == ("p2", Reason.SOURCE_CHANGED)
    assert catalog.mill.run().computed == 1, "the next run embeds it as it is now"
    assert_vectors(catalog.mill.live(), pictures | {"p2": picture(99)})


def assert_vectors(release: Release, pictures: Mapping[str, bytes | None]) -> None:
    there = {sku: data for sku, data in pictures.items() if data is not None}
    expected = embed(pa.table({"image": list(there.values())}), release.model_folder)
    want = dict(zip(there, expected.column("vector").to_pylist(), strict=True))
    ids, vectors = release.to_numpy()
    assert sorted(ids) == sorted(want)
    for sku, vector in zip(ids, vectors, strict=True):
        np.testing.assert_allclose(vector, want[sku], atol=1e-6)
