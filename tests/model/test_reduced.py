"""A package declares that JPEGs may be decoded at a reduced scale, and by how much that may move vectors."""

from __future__ import annotations

import io
import itertools
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from onnx import TensorProto
from PIL import Image
from tests.decoding.pictures import noise
from tests.models import tiny_image_package, tiny_text_package
from tests.one_input import loaded, mirror_package
from tests.support.mill import Mill

from embedmill.decoding.recipe import Recipe
from embedmill.errors import ModelError, SpecError
from embedmill.model import ModelPackage
from embedmill.model.check import check_package
from embedmill.model.importing import import_declared
from embedmill.model.reduced import jpegs, reduced_cosine
from embedmill.serving.served import Machine, Served
from embedmill.spec import load_model_spec


def declare(source: Path, **tolerance: Any) -> Path:
    """Write these keys into every image input of a model.yaml."""
    document = yaml.safe_load((source / "model.yaml").read_text())
    for inputs in document["encoders"].values():
        inputs["pixels"]["image"].update(tolerance)
    (source / "model.yaml").write_text(yaml.safe_dump(document))
    return source


def imported(source: Path, target: Path) -> ModelPackage:
    return import_declared(source / "model.onnx", source / "model.yaml", target)


def test_the_scale_belongs_to_the_encoder_and_the_tolerance_does_not(tmp_path: Path) -> None:
    source = tiny_image_package(tmp_path / "source")
    digests = [ModelPackage.open(source).encoder_digest("item")]
    for tolerance in ({"reduced": 1.0, "reduced_cosine": 0.9}, {"reduced_cosine": 0.5}, {"reduced": 2.0}):
        digests.append(ModelPackage.open(declare(source, **tolerance)).encoder_digest("item"))
    whole, reduced, looser, larger = digests
    assert reduced == looser
    assert len({whole, reduced, larger}) == 3


@pytest.mark.parametrize(
    "tolerance",
    [
        {"reduced": 1.0},
        {"reduced_cosine": 0.9},
        {"reduced": 0.5, "reduced_cosine": 0.9},
        {"reduced": float("inf"), "reduced_cosine": 0.9},
        {"reduced": 1.0, "reduced_cosine": 0.0},
        {"reduced": 1.0, "reduced_cosine": 1.1},
    ],
)
def test_scale_and_tolerance_are_declared_together_and_can_be_kept(
    tmp_path: Path, tolerance: dict[str, float]
) -> None:
    source = declare(tiny_image_package(tmp_path / "source"), **tolerance)
    with pytest.raises(SpecError, match="reduced"):
        load_model_spec(source / "model.yaml")


def test_the_check_says_how_much_vectors_move(tmp_path: Path) -> None:
    source = declare(tiny_image_package(tmp_path / "source"), reduced=1.0, reduced_cosine=0.9)
    report = check_package(imported(source, tmp_path / "package"))
    assert report.failure is None
    for encoder in report.encoders:
        found = encoder.runtimes[0].reduced_cosine
        assert found is not None
        assert 0.9 <= found < 1.0


def test_more_pixels_move_vectors_less(tmp_path: Path) -> None:
    lowest = []
    for times in (1.0, 2.0, 4.0):
        folder = tiny_image_package(tmp_path / f"{times}")
        with loaded(declare(folder, reduced=times, reduced_cosine=0.9)) as encoder:
            lowest.append(reduced_cosine(encoder) or 0.0)
    assert lowest == sorted(lowest)
    assert lowest[0] < lowest[-1]


def test_a_package_that_does_not_keep_its_tolerance_is_not_imported(tmp_path: Path) -> None:
    source = declare(tiny_image_package(tmp_path / "source"), reduced=1.0, reduced_cosine=1.0)
    with pytest.raises(ModelError, match=r"cosine of 0\.\d+ .* below reduced_cosine: 1"):
        imported(source, tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_a_tolerance_that_is_no_longer_kept_fails_the_check(tmp_path: Path) -> None:
    source = declare(tiny_image_package(tmp_path / "source"), reduced=1.0, reduced_cosine=0.5)
    package = imported(source, tmp_path / "package")
    report = check_package(ModelPackage.open(declare(package.root, reduced_cosine=1.0)))
    assert "below reduced_cosine: 1" in str(report.failure)


def test_models_without_it_have_nothing_to_tell(tmp_path: Path) -> None:
    for folder in (tiny_image_package(tmp_path / "images"), tiny_text_package(tmp_path / "texts")):
        with loaded(folder) as encoder:
            assert reduced_cosine(encoder) is None


@pytest.mark.parametrize("resize", [256, (20, 300)])
def test_drawn_jpegs_are_all_large_enough_to_be_reduced(resize: Any) -> None:
    recipe = Recipe(resize, (16, 16), "bicubic", (0, 0, 0), 1 << 26, reduced=1.5)
    wanted = np.array(recipe.resized((1, 1))) * 1.5
    for file in jpegs(recipe):
        with Image.open(io.BytesIO(file)) as picture:
            assert (np.array(picture.size) >= 2 * wanted).all()


def test_large_pictures_are_drawn_in_little_memory() -> None:
    recipe = Recipe(1024, None, "bicubic", (0, 0, 0), 1 << 26, reduced=1.0)
    tracemalloc.start()
    try:
        for file in itertools.islice(jpegs(recipe), 4):
            with Image.open(io.BytesIO(file)) as picture:
                assert picture.size == (2048, 2048)
        assert tracemalloc.get_traced_memory()[1] < 150e6
    finally:
        tracemalloc.stop()


def test_pictures_for_large_inputs_are_large_enough_beyond_the_longest_side() -> None:
    file = next(jpegs(Recipe(1100, None, "bicubic", (0, 0, 0), 1 << 26, reduced=1.5)))
    with Image.open(io.BytesIO(file)) as picture:
        assert picture.size == (3300, 3300)


def photo(number: int) -> bytes:
    stream = io.BytesIO()
    noise(61 + number, 47, number).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def test_worker_and_server_show_the_model_the_same_pixels(tmp_path: Path) -> None:
    """The vectors of this model are its pixels."""
    pixels = {"image": {"field": "image", "resize": {"height": 8, "width": 8}, "scale": 1.0}}
    pixels["image"] |= {"reduced": 1.0, "reduced_cosine": 0.9}
    folder = mirror_package(
        tmp_path / "model", {"pixels": pixels}, ("pixels", TensorProto.FLOAT, (3, 8, 8)), dimension=192
    )
    mill = Mill(tmp_path, folder, pa.schema([("sku", pa.string()), ("image", pa.binary())]))
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku"}
    mill.run([{"sku": f"{number:02}", "image": photo(number)} for number in range(20)])
    release = mill.live()
    ids, batch = release.to_numpy()
    served = Served.load(release, Machine(), release.content.pipeline.serving)
    try:
        encoder = served.lane("item").encoder
        for at, sku in enumerate(ids):
            rows = pa.record_batch({"image": pa.array([photo(int(sku))], pa.binary())})
            assert np.array_equal(encoder.encode(rows).vectors_ND[0], batch[at])
    finally:
        served.close()
