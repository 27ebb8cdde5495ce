"""The model: three towers into one space of unit vectors, for items, for typed queries and for pictures.

Texts are read inside the graph, as hashed trigrams of letters and hashed words: a word that training never
saw still looks like itself. Pictures are 48 x 48; category and tags are rows of embedding tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

DIMENSION = 128
PIXELS = 48
BUCKETS = 1 << 14
WIDTH = 256
SPREAD = 0.3
"""Of the table's first values: wide enough that parts which training never saw still tell texts apart."""

Tensor = Any


@keras.saving.register_keras_serializable("two-tower")
class TextTower(keras.layers.Layer):
    """string[N] into float32[N, 128]: the mean over trigrams of what each adds."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.parts = keras.layers.Embedding(
            BUCKETS, WIDTH, embeddings_initializer=keras.initializers.RandomNormal(stddev=SPREAD)
        )
        self.project = keras.layers.Dense(DIMENSION, use_bias=False)

    def call(self, texts: Tensor) -> Tensor:
        """Vectors of texts; an empty one is zeros."""
        ids = hashed_parts(texts)
        sums = tf.math.unsorted_segment_sum(self.parts(ids.flat_values), ids.value_rowids(), ids.nrows())
        lengths = tf.cast(ids.row_lengths(), sums.dtype)[:, None]
        return self.project(sums / tf.sqrt(tf.maximum(lengths, 1.0)))


def hashed_parts(texts: Tensor) -> Tensor:
    """Ragged int64[N, None]: `an ox` has `␣an`, `an␣`, `n␣o`, `␣ox`, `ox␣`, its words, and pairs of them."""
    clean = tf.strings.regex_replace(tf.strings.lower(texts, encoding="utf-8"), r"[^\pL\pN#*+&]+", " ")
    padded = tf.strings.join([" ", tf.strings.strip(clean), " "])
    letters = tf.strings.unicode_split(padded, "UTF-8")
    words = tf.strings.split(tf.strings.join(["^ ", clean, " $"]))
    found = [
        tf.strings.ngrams(letters, 3, separator=""),
        tf.strings.ngrams(words, 1),
        tf.strings.ngrams(words, 2),
    ]
    return tf.ragged.map_flat_values(tf.strings.to_hash_bucket_fast, tf.concat(found, axis=1), BUCKETS)


def image_tower() -> keras.Model:
    """float32[N, 48, 48, 3] in 0..1 into float32[N, 128]."""
    layers: list[Any] = [keras.layers.Input((PIXELS, PIXELS, 3))]
    for channels in (32, 64, 128):
        layers += [
            keras.layers.Conv2D(channels, 3, strides=2, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.Activation("relu"),
        ]
    layers += [keras.layers.Flatten(), keras.layers.Dropout(0.2), keras.layers.Dense(DIMENSION)]
    return keras.Sequential(layers)


class TwoTower(keras.Model):
    """Towers that meet in one space; every vector has length 1."""

    def __init__(self, categories: int, tags: int) -> None:
        super().__init__()
        self.text = TextTower()
        self.image = image_tower()
        self.category = keras.layers.Embedding(categories + 1, DIMENSION)
        self.tags = keras.layers.Dense(DIMENSION, use_bias=False)
        self.text.build((None,))
        self.tags.build((None, tags))

    def item(
        self, name: Tensor, image: Tensor, category: Tensor, tags: Tensor, *, training: bool = False
    ) -> Tensor:
        """Vectors of items: what is missing adds nothing."""
        seen = self.image(image, training=training)
        return unit(self.text(name) + seen + self.category(category) + self.tags(tags))

    def query_text(self, query: Tensor) -> Tensor:
        """Vectors of what people type."""
        return unit(self.text(query))

    def query_image(self, image: Tensor, *, training: bool = False) -> Tensor:
        """Vectors of pictures."""
        return unit(self.image(image, training=training))


def unit(vectors: Tensor) -> Tensor:
    """Of length 1."""
    return tf.math.l2_normalize(vectors, axis=-1)


def export(model: TwoTower, folder: Path, *, tags: int) -> None:
    """A SavedModel with a signature for each encoder; inputs and outputs by name."""
    text, number = tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int64)
    pixels = tf.TensorSpec([None, PIXELS, PIXELS, 3], tf.float32)
    many = tf.TensorSpec([None, tags], tf.float32)

    @tf.function(
        input_signature=[
            named(text, "name"),
            named(pixels, "image"),
            named(number, "category"),
            named(many, "tags"),
        ]
    )
    def item(name: Tensor, image: Tensor, category: Tensor, tags: Tensor) -> dict[str, Tensor]:
        return {"vector": model.item(name, image, category, tags)}

    @tf.function(input_signature=[named(text, "query")])
    def query_text(query: Tensor) -> dict[str, Tensor]:
        return {"vector": model.query_text(query)}

    @tf.function(input_signature=[named(pixels, "image")])
    def query_image(image: Tensor) -> dict[str, Tensor]:
        return {"vector": model.query_image(image)}

    signatures = {"item": item, "query_text": query_text, "query_image": query_image}
    tf.saved_model.save(model, str(folder), signatures=signatures)


def named(spec: Any, name: str) -> Any:
    """The same with a name."""
    return tf.TensorSpec(spec.shape, spec.dtype, name)
