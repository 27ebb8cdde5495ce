"""What a transformer must compute for texts: operations of their tokens alone, padding not counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Transformer:
    """An encoder: layers of `hidden` numbers a token, and of `inner` between the two dense products."""

    layers: int
    hidden: int
    inner: int

    def operations(self, lengths: Iterable[int]) -> float:
        """For texts of so many tokens; a multiply-add counts as two.

        In a layer, a token meets four matrices of hidden x hidden (query, key, value, output) and two of
        hidden x inner; and every token of its text twice, for scores and for weighted values. What is linear
        in hidden (norms, softmax, biases, pooling) is left out: it is under 1 %.
        """
        dense = 2 * (4 * self.hidden**2 + 2 * self.hidden * self.inner)
        return float(sum(self.layers * length * (dense + 4 * length * self.hidden) for length in lengths))


MINILM = Transformer(layers=6, hidden=384, inner=1536)
