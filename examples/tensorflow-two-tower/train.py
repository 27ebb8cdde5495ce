"""Trains the towers on the items that are not held out, and exports them.

    python examples/tensorflow-two-tower/train.py two-tower

What is learned: an item's name, the words for its kind and its picture all lead to its vector, and away from
those of the other items in the batch.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import tensorflow as tf
from items import category_query, misspelt
from PIL import Image
from towers import PIXELS, TwoTower, export

BATCH = 256
TEMPERATURE = 0.05
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Items:
    """Items as the towers read them, and what may be asked for them; N rows each.

    `images` is uint8[N, 48, 48, 3], `tags` float32[N, V], the others object[N] and int64[N].
    """

    names: Array
    images: Array
    categories: Array
    tags: Array
    queries: Array
    kinds: Array
    bases: Array

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Array) -> Items:
        """Some of the rows."""
        return Items(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def read_items(folder: Path) -> Items:
    """Those that training may see."""
    table = pq.read_table(folder / "items" / "items.parquet")
    table = table.filter(np.logical_not(table["held_out"].to_numpy()))
    categories = vocabulary(folder / "export" / "categories.txt")
    tags = vocabulary(folder / "export" / "tags.txt")
    queries = [category_query(kind) for kind in table["subcategory"].to_pylist()]
    numbers = {query: number for number, query in enumerate(sorted(set(queries)))}
    return Items(
        names=np.array(table["name"].to_pylist(), object),
        images=np.stack([pixels(image) for image in table["image"].to_pylist()]),
        categories=np.array([categories[value] for value in table["category"].to_pylist()], np.int64),
        tags=np.stack([multi_hot(values, tags) for values in table["tags"].to_pylist()]),
        queries=np.array(queries, object),
        kinds=np.array([numbers[query] for query in queries]),
        bases=np.unique(table["base"].to_pylist(), return_inverse=True)[1],
    )


def vocabulary(file: Path) -> Mapping[str, int]:
    """Value → number, from 1 on: 0 is for values that it lacks."""
    return {value: number for number, value in enumerate(file.read_text("utf-8").splitlines(), start=1)}


def multi_hot(values: list[str], numbers: Mapping[str, int]) -> Array:
    """float32[V]: 1 for each value."""
    hot = np.zeros(len(numbers), np.float32)
    hot[[numbers[value] - 1 for value in values]] = 1
    return hot


def pixels(image: bytes) -> Array:
    """uint8[48, 48, 3] over white."""
    opened = Image.open(io.BytesIO(image)).convert("RGBA")
    over = Image.alpha_composite(Image.new("RGBA", opened.size, "white"), opened).convert("RGB")
    return np.asarray(over.resize((PIXELS, PIXELS), Image.Resampling.BICUBIC))


def contrast(queries: Any, items: Any, same: Any) -> Any:
    """Cross entropy between whom a query is like and whom it should be: the rows of `same`, bool[N, N]."""
    wanted = tf.cast(same, tf.float32)
    wanted /= tf.reduce_sum(wanted, axis=1, keepdims=True)
    scores = tf.matmul(queries, items, transpose_b=True) / TEMPERATURE
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(wanted, scores))


class Trainer:
    """One step of training; `random` decides what of an item is hidden."""

    def __init__(self, model: TwoTower, seed: int) -> None:
        self.model = model
        self.random = np.random.default_rng(seed)
        self.typing = random.Random(seed)
        self.optimizer = keras.optimizers.Adam(2e-3)

    def epoch(self, items: Items) -> float:
        """Every item once; the mean loss."""
        order = np.argsort(self.random.permutation(items.bases.max() + 1)[items.bases], kind="stable")
        batches = [items.take(order[at : at + BATCH]) for at in range(0, len(order), BATCH)]
        return float(np.mean([float(self.step(*self._feeds(batch))) for batch in batches]))

    def _feeds(self, batch: Items) -> tuple[Any, ...]:
        """Names, pictures and kinds are hidden at times, so that none is leant upon alone."""
        shown = self.random.random((3, len(batch))) > [[0.2], [0.2], [0.1]]
        pictures = batch.images.astype(np.float32) / 255
        flips = self.random.random(len(batch)) < 0.5
        other = np.where(flips[:, None, None, None], pictures[:, :, ::-1], pictures)
        return (
            tf.constant(np.where(shown[0], batch.names, "")),
            tf.constant(pictures * shown[1][:, None, None, None]),
            tf.constant(batch.categories * shown[2]),
            tf.constant(batch.tags * shown[2][:, None]),
            tf.constant(
                np.where(shown[0], [misspelt(name, self.typing) for name in batch.names], batch.queries)
            ),
            tf.constant(batch.queries),
            tf.constant(other.astype(np.float32)),
            tf.constant(batch.kinds),
            tf.constant(shown[0]),
        )

    @tf.function(reduce_retracing=True)
    def step(
        self,
        names: Any,
        images: Any,
        categories: Any,
        tags: Any,
        asked: Any,
        kinds: Any,
        pictures: Any,
        kind: Any,
        named: Any,
    ) -> Any:
        """Learn from one batch; its loss."""
        with tf.GradientTape() as tape:
            items = self.model.item(names, images, categories, tags, training=True)
            alike = kind[:, None] == kind[None, :]
            itself = tf.eye(tf.shape(kind)[0], dtype=tf.bool) | (alike & ~named[:, None])
            loss = (
                2.0 * contrast(self.model.query_text(asked), items, itself)
                + 2.0 * contrast(self.model.query_text(kinds), items, alike)
                + contrast(self.model.query_image(pictures, training=True), items, alike)
            )
        weights = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss


def train(folder: Path, *, epochs: int, seed: int) -> None:
    """Train, say how it goes, export to `export/towers`."""
    keras.utils.set_random_seed(seed)
    items = read_items(folder)
    tags = items.tags.shape[1]
    model = TwoTower(categories=int(items.categories.max()), tags=tags)
    trainer = Trainer(model, seed)
    started = time.monotonic()
    for epoch in range(1, epochs + 1):
        loss = trainer.epoch(items)
        seconds = time.monotonic() - started
        left = seconds / epoch * (epochs - epoch)
        print(f"epoch {epoch}/{epochs}: loss {loss:.3f}, {seconds:.0f} s, {left:.0f} s left", file=sys.stderr)
    target = folder / "export" / "towers"
    shutil.rmtree(target, ignore_errors=True)
    export(model, target, tags=tags)
    print(f"{len(items):,} items, {epochs} epochs in {time.monotonic() - started:.0f} s: {target}")


def main() -> None:
    """Parse and train."""
    parser = argparse.ArgumentParser(description="Train the two towers.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("two-tower"))
    parser.add_argument("--epochs", type=int, default=25, help="%(default)s; with 0 nothing is learned")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    train(options.folder, epochs=options.epochs, seed=options.seed)


if __name__ == "__main__":
    main()
