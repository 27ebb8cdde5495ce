"""Several images of an item: in their order, absent ones as zeros, a bad one with its column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from onnx import TensorProto
from tests.every_input import png
from tests.one_input import loaded, mirror_package

from embedmill.errors import ModelError
from embedmill.types import Encoded

FLOAT = TensorProto.FLOAT
RED, BLUE = png(255), png(0)


def package(
    folder: Path, *, shape: tuple[int, ...] = (2, 1, 1, 3), beside: bool = False, **declared: Any
) -> Path:
    """One pixel of each image, unscaled, and a mask."""
    image = {
        "field": ["front", "back"],
        "resize": {"height": 1, "width": 1},
        "scale": 1.0,
        "layout": "nhwc",
        "mask": "there",
        **declared,
    }
    item: dict[str, Any] = {"pixels": {"image": image}}
    inputs: list[tuple[str, int, tuple[int, ...]]] = [
        ("pixels", FLOAT, shape),
        ("there", TensorProto.BOOL, (2,)),
    ]
    if beside:
        item["price"] = {"number": {"field": "price"}}
        inputs.append(("price", FLOAT, ()))
    return mirror_package(folder, item, *inputs, dimension=9 if beside else 8)


def fed(folder: Path, front: list[bytes | None], back: list[bytes | None]) -> Encoded:
    rows = {"front": pa.array(front, pa.binary()), "back": pa.array(back, pa.binary())}
    return loaded(folder).encode(pa.record_batch({**rows, "price": pa.array([5.0] * len(front))}))


def test_images_are_fed_in_order_and_absent_ones_are_zeros_that_the_mask_tells(tmp_path: Path) -> None:
    made = fed(package(tmp_path / "p"), [RED, None, b""], [BLUE, RED, BLUE])
    red, blue, none = [255, 90, 200], [0, 90, 200], [0, 0, 0]
    assert made.vectors_ND.tolist() == [
        [*red, *blue, 1, 1],
        [*none, *red, 0, 1],
        [*none, *blue, 0, 1],
    ]


def test_an_item_without_any_image_is_rejected_unless_it_has_something_else(tmp_path: Path) -> None:
    alone = fed(package(tmp_path / "alone"), [RED, None], [None, None])
    assert {row: why.detail for row, why in alone.rejected.items()} == {1: "column 'front' has no image"}
    beside = fed(package(tmp_path / "beside", beside=True), [RED, None], [None, None])
    assert not beside.rejected
    assert beside.vectors_ND[1].tolist() == [0] * 8 + [5]


def test_a_missing_image_rejects_its_item_where_that_is_declared(tmp_path: Path) -> None:
    folder = package(tmp_path / "p", beside=True, missing="reject")
    made = fed(folder, [RED, RED, None], [BLUE, None, None])
    assert {row: (str(why.reason), why.detail) for row, why in made.rejected.items()} == {
        1: ("image-missing", "column 'back' has no image"),
        2: ("image-missing", "column 'front' has no image"),
    }


def test_a_bad_image_is_named_by_its_column_and_its_neighbours_are_unharmed(tmp_path: Path) -> None:
    made = fed(package(tmp_path / "p"), [RED, BLUE, RED], [BLUE, b"junk", None])
    (row,) = made.rejected
    assert row == 1
    assert made.rejected[1].detail.startswith("column 'back': ")
    assert made.vectors_ND[2].tolist() == [255, 90, 200, 0, 0, 0, 1, 0]


def test_a_bad_image_is_named_by_its_column_where_several_inputs_have_one_each(tmp_path: Path) -> None:
    image = {"resize": {"height": 1, "width": 1}, "scale": 1.0, "layout": "nhwc"}
    item = {name: {"image": {"field": name, **image}} for name in ("front", "back")}
    shape = (1, 1, 3)
    folder = mirror_package(
        tmp_path / "p", item, ("front", FLOAT, shape), ("back", FLOAT, shape), dimension=6
    )
    assert fed(folder, [RED], [b"junk"]).rejected[0].detail.startswith("column 'back': ")
    alone = mirror_package(tmp_path / "q", {"front": item["front"]}, ("front", FLOAT, shape), dimension=3)
    assert "column" not in fed(alone, [b"junk"], [RED]).rejected[0].detail


def test_one_column_in_a_list_has_an_axis_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"images are \[N, 1, 1, 1, 3\], .*float32\[rows, 2, 1, 1, 3\]"):
        loaded(package(tmp_path / "p", field=["front"]))
