"""A model that sees colours: words and pictures of one colour have one vector."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import yaml
from onnx import TensorProto, helper
from PIL import Image, ImageDraw
from tests.models import save_onnx
from tokenizers import Tokenizer, models, pre_tokenizers

COLOURS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (30, 60, 220), "yellow": (240, 210, 30)}
SIDE = 8
PICTURE = {"image": {"field": "image", "resize": {"height": SIDE, "width": SIDE}}}


def colours_package(folder: Path) -> Path:
    """Encoders `item` and `query_image` (a mean colour), `query_text` (mean of words)."""
    folder.mkdir(parents=True)
    vocabulary = {"[UNK]": 0} | {name: place for place, name in enumerate(COLOURS, start=1)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    _save_words(folder / "words.onnx")
    _save_pictures(folder / "pictures.onnx")
    document = {
        "name": "colours",
        "runtimes": [
            {"kind": "onnx", "file": "pictures.onnx", "encoders": ["item", "query_image"]},
            {"kind": "onnx", "file": "words.onnx", "encoders": ["query_text"]},
        ],
        "dimension": 3,
        "normalize": "l2",
        "encoders": {
            "item": {"pixels": PICTURE},
            "query_image": {"pixels": PICTURE},
            "query_text": {"input_ids": {"text": {"template": "{query}", "max_length": 8}}},
        },
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(document)), sort_keys=False))
    return folder


def picture(colour: str, number: int = 0) -> bytes:
    """A PNG of a disk of this colour, of a size by its number."""
    image = Image.new("RGB", (96, 96), (128, 128, 128))
    edge = 6 + number % 20
    ImageDraw.Draw(image).ellipse((edge, edge, 95 - edge, 95 - edge), fill=COLOURS[colour])
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _save_words(file: Path) -> None:
    table = np.array([(128, 128, 128), *COLOURS.values()], np.float32) / 255 - 128 / 255
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["states"]),
        helper.make_node("ReduceMean", ["states"], ["vectors"], axes=[1], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "tokens"])]
    save_onnx(file, nodes, inputs, [_vectors()], weights={"table": table})


def _save_pictures(file: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Sub", ["means", "grey"], ["vectors"]),
    ]
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["rows", 3, SIDE, SIDE])]
    save_onnx(file, nodes, inputs, [_vectors()], weights={"grey": np.array([128 / 255], np.float32)})


def _vectors() -> object:
    return helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["rows", 3])
