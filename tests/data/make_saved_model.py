"""Makes tests/data/saved_model: the tiny text model as TensorFlow saves it, for tests without TensorFlow.

    pip install tensorflow-cpu==2.21.0 && PYTHONPATH=. python tests/data/make_saved_model.py

It has two outputs, so that their names matter.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf
from tests.tiny_text import weights

FOLDER = Path(__file__).with_name("saved_model")
IDS = tf.TensorSpec([None, None], tf.int64)


class TinyText(tf.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        known = weights(dimension=6)
        self.table, self.positions = tf.Variable(known["table"]), tf.Variable(known["positions"])

    @tf.function(input_signature=[IDS, IDS])  # type: ignore[untyped-decorator]
    def embed(self, input_ids: Any, attention_mask: Any) -> dict[str, Any]:
        states = tf.tanh(tf.gather(self.table, input_ids) + self.positions[: tf.shape(input_ids)[1]])
        mask = tf.cast(attention_mask, tf.float32)[:, :, None]
        vectors = tf.reduce_sum(states * mask, 1) / tf.reduce_sum(mask, 1)
        return {"vectors": vectors, "halves": vectors / 2}


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    model = TinyText()
    options = tf.saved_model.SaveOptions(save_debug_info=False)
    tf.saved_model.save(model, FOLDER, signatures={"serving_default": model.embed}, options=options)
    (FOLDER / "fingerprint.pb").unlink()  # it differs from run to run, and nothing reads it
