"""Artifacts of `jax.export`, made in the tests: the tiny text model, and hostile ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import export
from tests.tiny_text import weights

PLATFORMS = ("cpu", "cuda", "tpu")
Weights = Mapping[str, npt.NDArray[np.float32]]
KNOWN = weights(dimension=6)


def embed(input_ids: Any, attention_mask: Any, known: Weights = KNOWN) -> dict[str, Any]:
    """The tiny text model of six dimensions."""
    places = jnp.asarray(known["positions"])[: input_ids.shape[1]]
    states = jnp.tanh(jnp.asarray(known["table"])[input_ids] + places)
    mask = attention_mask.astype(jnp.float32)[:, :, None]
    vectors = (states * mask).sum(1) / mask.sum(1)
    return {"halves": vectors / 2, "vectors": vectors}


def text_artifact(file: Path, *, platforms: Sequence[str] = PLATFORMS, seed: int = 0) -> Path:
    """The model above, of int64 ids, for any number of rows and up to 64 tokens."""
    known = weights(dimension=6, seed=seed)
    rows, tokens = export.symbolic_shape("rows, tokens", constraints=["tokens <= 64"])
    with jax.enable_x64(True):
        ids = jax.ShapeDtypeStruct((rows, tokens), np.int64)
        function = jax.jit(lambda feeds: embed(**feeds, known=known))
        exported = export.export(function, platforms=platforms)({"input_ids": ids, "attention_mask": ids})
    file.write_bytes(exported.serialize())
    return file


def exported_of(
    function: Callable[[Any], Any],
    *,
    platforms: Sequence[str] = ("cpu",),
    precision: str | None = "highest",
    allowed: Sequence[str] = (),
) -> export.Exported:
    """Of a function of x, float32[rows, 16], as the input `x`."""
    (rows,) = export.symbolic_shape("rows")
    x = jax.ShapeDtypeStruct((rows, 16), np.float32)
    checks = [export.DisabledSafetyCheck.custom_call(target) for target in allowed]
    with jax.default_matmul_precision(precision):
        return export.export(
            jax.jit(lambda feeds: function(feeds["x"])), platforms=platforms, disabled_checks=checks
        )({"x": x})


def written(file: Path, exported: export.Exported, **lies: Any) -> Path:
    """The artifact, with some of what it says about itself changed."""
    file.write_bytes(dataclasses.replace(exported, **lies).serialize())
    return file
