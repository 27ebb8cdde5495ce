"""Modules that users could have written, with functions for JAX, and their declarations."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from tests.models import byte_tokenizer

from embedmill.model import ModelPackage
from embedmill.model.jax_function import import_function
from embedmill.model.jax_lowering import Argument, Request

TEXT = """\
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

RANDOM = np.random.default_rng(0)
PARAMS = {
    "table": RANDOM.normal(size=(258, 8)).astype(np.float32),
    "places": RANDOM.normal(size=(64, 8)).astype(np.float32),
    "out": RANDOM.normal(size=(8, 6)).astype(np.float32),
}


def states(params, input_ids):
    places = jnp.asarray(params["places"])[: input_ids.shape[1]]
    return jnp.tanh(jnp.asarray(params["table"])[input_ids] + places)


def forward(params, input_ids, attention_mask, scale=1.0):
    mask = attention_mask.astype(jnp.float32)[:, :, None]
    pooled = (states(params, input_ids) * mask).sum(1) / mask.sum(1)
    return scale * pooled @ params["out"]


embed = partial(forward, PARAMS)
compiled = jax.jit(embed)


def make(path="weights.npz"):
    return jax.jit(embed)


def named(input_ids, attention_mask):
    return {"half": embed(input_ids, attention_mask) / 2, "whole": embed(input_ids, attention_mask)}


class Model:
    def __call__(self, input_ids, attention_mask):
        return embed(input_ids, attention_mask)


model = Model()


def of_short_texts(input_ids, attention_mask):
    if input_ids.shape[1] > 10:
        return embed(input_ids[:, :10], attention_mask[:, :10])
    return embed(input_ids, attention_mask)


def unpooled(input_ids):
    return states(PARAMS, input_ids)


def summed(input_ids):
    return states(PARAMS, input_ids).sum((0, 1))


def narrow(input_ids, attention_mask):
    return embed(input_ids, attention_mask)[:, :4]


def whole_numbers(input_ids, attention_mask):
    return embed(input_ids, attention_mask).astype(int)


def other_names(ids, mask):
    return embed(ids, mask)


def unbound(params, input_ids):
    return forward(params, input_ids)


def anything(**arrays):
    return embed(**arrays)


def rounding(input_ids, attention_mask):
    made = embed(input_ids, attention_mask)
    return jnp.dot(made, np.eye(6, dtype=np.float32), precision=jax.lax.Precision.DEFAULT)


def calling_back(input_ids, attention_mask):
    made = embed(input_ids, attention_mask)
    return jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct(made.shape, made.dtype), made)


def solving(input_ids, attention_mask):
    return embed(input_ids, attention_mask) @ jnp.linalg.eigh(jnp.ones((6, 6)))[1]


def make_nothing():
    return None


def make_badly():
    raise FileNotFoundError("weights.npz")


def make_strange():
    return embed, {"pixels": "uint8"}


def make_wide():
    return embed, {"input_ids": "int64"}


def make_unknown():
    return embed, {"input_ids": "integers"}


number = 6
Path(__file__).with_name("imported").write_text("once")
print("a word of the module")
"""
IMAGE = '''\
import jax
import jax.numpy as jnp
import numpy as np

KERNEL = np.random.default_rng(0).normal(size=(3, 3, 3, 5)).astype(np.float32)


def embed(pixels):
    """float32 or uint8 [rows, 16, 16, 3]."""
    scaled = pixels.astype(jnp.float32) / 255
    made = jax.lax.conv_general_dilated(
        scaled, KERNEL, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.nn.relu(made).mean((1, 2))


def of_bytes():
    return embed, {"pixels": jnp.uint8}
'''
EVERYTHING = """\
import jax.numpy as jnp


def embed(photos, there, kind, tags, words, price, no_price, stock):
    assert str(stock.dtype) == "bool" and str(kind.dtype) == "int32"
    rows = photos.shape[0]
    seen = [photos.reshape(rows, -1).mean(1), there[:, 0], there[:, 1]]
    parts = [*seen, kind, tags.sum(1), price, no_price, stock]
    return jnp.concatenate([jnp.stack([part.astype(jnp.float32) for part in parts], axis=1), words], axis=1)
"""
TEXTS_OF_SPEC: dict[str, Any] = {
    "item": {"input_ids": {"text": {"template": "{title}. {category}", "max_length": 64}}},
    "query_text": {"input_ids": {"text": {"template": "{query}", "max_length": 32}}},
}
RESIZED = {"resize": {"height": 16, "width": 16}, "scale": 1.0, "layout": "nhwc"}
ALL_THREE = ("cpu", "cuda", "tpu")


def furnished(folder: Path) -> Path:
    """The folder of somebody who has a module of a text model."""
    folder.mkdir()
    (folder / "textmodel.py").write_text(TEXT)
    byte_tokenizer(folder / "tokenizer.json")
    declare(folder, encoders=TEXTS_OF_SPEC)
    return folder


def declare(folder: Path, **changed: Any) -> None:
    runtimes = [{"kind": "jax", "file": "model.jax"}]
    document = {"name": "shop", "runtimes": runtimes, "dimension": 6, "normalize": "l2"} | changed
    (folder / "model.yaml").write_text(yaml.safe_dump(document))


def imported(shop: Path, function: str = "textmodel:embed") -> ModelPackage:
    return import_function(function, shop / "model.yaml", shop / "package")


def module(file: Path) -> ModuleType:
    """The user's module, in this process."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def runtime(**changed: Any) -> dict[str, Any]:
    return {key: value for key, value in {"kind": "jax", "file": "model.jax", **changed}.items() if value}


def request(function: str) -> Request:
    """What the child is asked for the text model."""
    return Request(
        function=f"textmodel:{function}" if ":" not in function else function,
        arguments=[
            Argument(name="input_ids", dtype="int32", shape=["rows", "tokens"], needed=True),
            Argument(name="attention_mask", dtype="int32", shape=["rows", "tokens"], needed=False),
        ],
        longest={"tokens": 64},
        platforms=list(ALL_THREE),
        precision="float32",
    )
