"""A tiny ONNX model that reads every kind of input, and what it should make of rows, written out in numpy."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIDE, LENGTH, DIMENSION = 4, 3, 6
CATEGORIES = ("[UNK]", "lamps", "chairs", "7")
TAGS = ("red", "green", "blue")
MATERIALS = ("wood", "steel", "wool")
TITLES = {"red lamp": 1.0, "chair": 2.0, "": 3.0}
MEAN, STD = 2.0, 0.5
RESIZED = {"resize": {"height": SIDE, "width": SIDE}, "layout": "nhwc"}
ITEM: Mapping[str, Any] = {
    "pixels": {"image": {"field": ["front", "back"], "mask": "pictured", **RESIZED}},
    "category": {
        "category": {"field": "category", "vocabulary": "categories.txt", "unknown": 0, "missing": 9}
    },
    "tags": {
        "categories": {
            "field": "tags",
            "vocabulary": "tags.txt",
            "offset": 1,
            "unknown": "drop",
            "length": LENGTH,
            "mask": "tagged",
        }
    },
    "materials": {
        "categories": {
            "field": "materials",
            "vocabulary": "materials.txt",
            "separator": ",",
            "encoding": "multi_hot",
            "unknown": 3,
        }
    },
    "price": {
        "number": {
            "field": "price",
            "transform": "log1p",
            "mean": MEAN,
            "std": STD,
            "missing": 10.0,
            "indicator": "unpriced",
        }
    },
    "stock": {"boolean": {"field": "stock", "missing": False}},
    "title": {"string": {"template": "{title}", "length_hint": "words"}},
    "file": {"bytes": {"field": "front", "missing": "empty", "lengths": "file_size"}},
}
SCHEMA = pa.schema(
    [
        ("sku", pa.string()),
        ("title", pa.string()),
        ("category", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("materials", pa.string()),
        ("price", pa.float64()),
        ("stock", pa.bool_()),
        ("front", pa.binary()),
        ("back", pa.binary()),
    ]
)
WIDTHS = {
    "pixels": 3,
    "pictured": 2,
    "materials": 4,
    "price": 1,
    "unpriced": 1,
    "stock": 1,
    "titles": 1,
    "bytes": 1,
}
"""Columns that each part has before it is multiplied with weights of its own."""


def every_input_package(folder: Path, *, item: Mapping[str, Any] = ITEM) -> Path:
    """A package whose `item` reads eight inputs, and `query_text` one string."""
    folder.mkdir(parents=True)
    for name, values in (("categories", CATEGORIES), ("tags", TAGS), ("materials", MATERIALS)):
        (folder / f"{name}.txt").write_text("".join(f"{value}\n" for value in values))
    _save(folder / "model.onnx", _nodes(), _inputs(), weights())
    _save(
        folder / "query.onnx",
        [*_of_titles(), helper.make_node("MatMul", ["titles", "titles_weights"], ["vectors"])],
        [_input("title", TensorProto.STRING, 1)],
        {"titles_weights": weights()["titles_weights"]},
    )
    document = {
        "name": "every-input",
        "runtimes": [
            {"kind": "onnx", "file": "model.onnx", "encoders": ["item"]},
            {"kind": "onnx", "file": "query.onnx", "encoders": ["query_text"]},
        ],
        "dimension": DIMENSION,
        "encoders": {"item": dict(item), "query_text": {"title": {"string": {"template": "{query}"}}}},
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder


def weights() -> dict[str, npt.NDArray[np.float32]]:
    random = np.random.default_rng(0)
    shapes = {f"{part}_weights": (width, DIMENSION) for part, width in WIDTHS.items()}
    shapes |= {"category_table": (10, DIMENSION), "tag_table": (4, DIMENSION)}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def every_item(count: int) -> list[dict[str, Any]]:
    """Rows of many kinds, each with a price of its own; some of all that may be missing."""
    return [
        {
            "sku": f"s{n}",
            "title": [*TITLES, "unheard of"][n % 4],
            "category": [None, "lamps", "chairs", "7", "new"][n % 5],
            "tags": [["red"], ["blue", "new", "green"], [], None, [None, "red", "", "red", "green", "blue"]][
                n % 5
            ],
            "materials": ["wood", "steel, wood", None, "", "glass,wool"][n % 5],
            "price": None if n % 7 == 3 else float(n),
            "stock": [True, False, None][n % 3],
            "front": png(n) if n % 3 else None,
            "back": png(n, "L") if n % 4 == 0 else None,
        }
        for n in range(count)
    ]


def png(seed: int, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (SIDE, SIDE), seed % 256 if mode == "L" else (seed % 256, 90, 200)).save(stream, "PNG")
    return stream.getvalue()


def expected(rows: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.float64]:
    """float64[N, D]: what the model makes of rows, in other words than the encoder's."""
    return np.array([_expected(row) for row in rows])


def _expected(row: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    of = {name: value.astype(np.float64) for name, value in weights().items()}
    pictures = [row["front"], row["back"]]
    there = [float(picture is not None) for picture in pictures]
    colours = np.mean([_colour(picture) for picture in pictures], axis=0)
    category = {None: 9, "lamps": 1, "chairs": 2, "7": 3}.get(row["category"], 0)
    tags = [TAGS.index(tag) + 1 for tag in row["tags"] or [] if tag in TAGS][:LENGTH]
    materials = np.zeros(4)
    for material in (row["materials"] or "").split(","):
        if material.strip():
            known = material.strip() in MATERIALS
            materials[MATERIALS.index(material.strip()) if known else 3] = 1
    price = (np.log1p(10.0 if row["price"] is None else row["price"]) - MEAN) / STD
    content = np.frombuffer(row["front"] or b"", np.uint8)
    parts = {
        "pixels": colours,
        "pictured": np.array(there),
        "materials": materials,
        "price": np.array([price]),
        "unpriced": np.array([float(row["price"] is None)]),
        "stock": np.array([float(bool(row["stock"]))]),
        "titles": np.array([TITLES.get(row["title"] or "", -1.0)]),
        "bytes": np.array([content.sum() / max(1, len(content))]) / 255,
    }
    total = sum(values @ of[f"{part}_weights"] for part, values in parts.items())
    made: npt.NDArray[np.float64] = total + of["category_table"][category] + of["tag_table"][tags].sum(axis=0)
    return made


def _colour(picture: bytes | None) -> npt.NDArray[np.float64]:
    if picture is None:
        return np.zeros(3)
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), np.float64) / 255
    colour: npt.NDArray[np.float64] = pixels.mean(axis=(0, 1))
    return colour


def _input(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["rows", *shape])


def _inputs() -> list[onnx.ValueInfoProto]:
    return [
        _input("pixels", TensorProto.FLOAT, 2, SIDE, SIDE, 3),
        _input("pictured", TensorProto.FLOAT, 2),
        _input("category", TensorProto.INT32),
        _input("tags", TensorProto.INT64, LENGTH),
        _input("tagged", TensorProto.BOOL, LENGTH),
        _input("materials", TensorProto.FLOAT, 4),
        _input("price", TensorProto.FLOAT, 1),
        _input("unpriced", TensorProto.FLOAT, 1),
        _input("stock", TensorProto.BOOL, 1),
        _input("title", TensorProto.STRING, 1),
        _input("file", TensorProto.UINT8, "bytes"),
        _input("file_size", TensorProto.INT64, 1),
    ]


def _of_titles() -> list[onnx.NodeProto]:
    return [
        helper.make_node(
            "LabelEncoder",
            ["title"],
            ["titles"],
            domain="ai.onnx.ml",
            keys_strings=list(TITLES),
            values_floats=list(TITLES.values()),
            default_float=-1.0,
        )
    ]


def _nodes() -> list[onnx.NodeProto]:
    axes = {"one": [1], "two": [2]}
    made = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value, np.int64)))
        for name, value in axes.items()
    ]
    scale = numpy_helper.from_array(np.array([1.0, 255.0], np.float32))
    floats = [
        ("stock", "stock_float"),
        ("tagged", "tagged_float"),
        ("file", "file_float"),
        ("file_size", "size_float"),
    ]
    made += [helper.make_node("Cast", [a], [b], to=TensorProto.FLOAT) for a, b in floats]
    made += [
        helper.make_node("Constant", [], ["scale"], value=scale),
        helper.make_node("Split", ["scale"], ["least", "full"], axis=0),
        helper.make_node("ReduceMean", ["pixels"], ["colours"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Gather", ["category_table", "category"], ["of_category"]),
        helper.make_node("Gather", ["tag_table", "tags"], ["of_each_tag"]),
        helper.make_node("Unsqueeze", ["tagged_float", "two"], ["tag_weights"]),
        helper.make_node("Mul", ["of_each_tag", "tag_weights"], ["of_known_tags"]),
        helper.make_node("ReduceSum", ["of_known_tags", "one"], ["of_tags"], keepdims=0),
        helper.make_node("ReduceSum", ["file_float", "one"], ["file_sum"], keepdims=1),
        helper.make_node("Max", ["size_float", "least"], ["file_length"]),
        helper.make_node("Div", ["file_sum", "file_length"], ["file_mean"]),
        helper.make_node("Div", ["file_mean", "full"], ["byte"]),
        *_of_titles(),
    ]
    sources = {"pixels": "colours", "stock": "stock_float", "bytes": "byte"}
    parts = ["of_category", "of_tags"]
    for part in WIDTHS:
        made.append(helper.make_node("MatMul", [sources.get(part, part), f"{part}_weights"], [f"of_{part}"]))
        parts.append(f"of_{part}")
    return [*made, helper.make_node("Sum", parts, ["vectors"])]


def _save(
    file: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    tensors: Mapping[str, npt.NDArray[Any]],
) -> None:
    vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["rows", DIMENSION])
    kept = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "every", inputs, [vectors], initializer=kept)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)
