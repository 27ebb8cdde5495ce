"""Small SavedModels, made by TensorFlow from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import yaml
from tests import tiny_text
from tests.models import byte_tokenizer


class TinyText(tf.Module):  # type: ignore[misc]  # the library has no types
    """The model of `tests.tiny_text`."""

    def __init__(self, dimension: int, seed: int = 0) -> None:
        super().__init__()
        known = tiny_text.weights(dimension=dimension, seed=seed)
        self.table, self.positions = (tf.Variable(known[name]) for name in ("table", "positions"))
        self.dimension = dimension

    def embed(self, input_ids: Any, attention_mask: Any) -> dict[str, Any]:
        width = tf.shape(input_ids)[1]
        states = tf.tanh(tf.gather(self.table, input_ids) + self.positions[:width])
        mask = tf.cast(attention_mask, tf.float32)[:, :, None]
        mean = tf.reduce_sum(states * mask, 1) / tf.reduce_sum(mask, 1)
        return {"vectors": tf.ensure_shape(mean, [None, self.dimension])}


def save(folder: Path, module: Any, function: Any, **inputs: Any) -> Path:
    """A SavedModel whose `serving_default` is a method of a module; `inputs` are tensor specs by name."""
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in inputs.items()]
    concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
    tf.saved_model.save(module, str(folder), signatures=concrete)
    return folder


def save_function(folder: Path, function: Any, **inputs: Any) -> Path:
    """The same of a function without variables."""
    return save(folder, tf.Module(), function, **inputs)


def save_tiny_text(folder: Path, *, dimension: int = 6, seed: int = 0) -> Path:
    module = TinyText(dimension, seed)
    spec = tf.TensorSpec([None, None], tf.int64)
    return save(folder, module, module.embed, input_ids=spec, attention_mask=spec)


def tiny_text_declaration(
    folder: Path, *, dimension: int = 16, template: str = "{title}. {category}"
) -> Path:
    """`model.yaml` and tokenizer of a package with the tiny text model in `model`."""
    folder.mkdir(parents=True, exist_ok=True)
    byte_tokenizer(folder / "tokenizer.json")
    document = {
        "name": "tiny",
        "runtimes": [{"kind": "tensorflow", "folder": "model"}],
        "dimension": dimension,
        "normalize": "l2",
        "encoders": {
            name: {"input_ids": {"text": {"template": text, "max_length": 64}}}
            for name, text in (("item", template), ("query_text", "{query}"))
        },
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder / "model.yaml"


def tiny_text_package(folder: Path, *, dimension: int = 16, seed: int = 0) -> Path:
    tiny_text_declaration(folder, dimension=dimension)
    save_tiny_text(folder / "model", dimension=dimension, seed=seed)
    return folder


def objects(*texts: str | bytes) -> np.ndarray[Any, Any]:
    """A string tensor as runtimes are fed it."""
    return np.array(texts, dtype=object)
