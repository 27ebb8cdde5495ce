"""embedmill on a device that computes wrongly: `python -m tests.support.rounding …`; vectors get noise."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from embedmill.cli import main
from embedmill.model import Encoder
from embedmill.types import Encoded

_encode = Encoder.encode


def noisy(self: Encoder, *given: Any, **options: Any) -> Encoded:
    made = _encode(self, *given, **options)
    noise = np.random.default_rng(1).normal(0, 0.05, made.vectors_ND.shape).astype(np.float32)
    return Encoded(made.vectors_ND + noise, made.rejected, made.thumbnails)


if __name__ == "__main__":
    Encoder.encode = noisy  # type: ignore[method-assign]
    sys.exit(main())
