"""The tiny text model of all runtimes as a SavedModel."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from tests.tiny_text import weights


class TinyText(tf.Module):  # type: ignore[misc]
    """Mean over tokens of tanh(token + position); see `tests.tiny_text`."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        known = weights(dimension=dimension)
        self.table, self.positions = (tf.Variable(known[name]) for name in ("table", "positions"))

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec([None, None], tf.int64, "input_ids"),
            tf.TensorSpec([None, None], tf.int64, "attention_mask"),
        ]
    )
    def serve(self, input_ids: tf.Tensor, attention_mask: tf.Tensor) -> dict[str, tf.Tensor]:
        last = tf.cast(tf.shape(self.table)[0] - 1, tf.int64)
        tf.debugging.assert_less_equal(input_ids, last, "token out of range")
        mask = tf.cast(attention_mask, tf.float32)[:, :, None]
        states = tf.tanh(tf.gather(self.table, input_ids) + self.positions[: tf.shape(input_ids)[1]])
        return {"vectors": tf.reduce_sum(states * mask, 1) / tf.reduce_sum(mask, 1)}


def save_tiny_text(folder: Path, *, dimension: int = 6) -> Path:
    """A SavedModel with the signature `serving_default`."""
    model = TinyText(dimension)
    tf.saved_model.save(model, str(folder), signatures=model.serve)
    return folder
