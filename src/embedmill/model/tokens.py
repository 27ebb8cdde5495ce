"""Texts become token ids: what a tokenizer file says, under the truncation that model.yaml says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tokenizers

from embedmill.errors import ModelError

Ids = npt.NDArray[np.int64]
"""int64[N, T]"""

PADDING_TOKENS = ("[PAD]", "<pad>", "<|endoftext|>")
VERSION: str = tokenizers.__version__


class TokenBatch(NamedTuple):
    """One padded batch: ids, mask (1 where a token is) and segment ids, each int64[N, T]."""

    ids_NT: Ids
    mask_NT: Ids
    type_ids_NT: Ids


@dataclass(frozen=True)
class Tokens:
    """Token ids and segment ids of N texts, unpadded, and the id that pads them."""

    ids: Sequence[Sequence[int]]
    type_ids: Sequence[Sequence[int]]
    pad_id: int

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each text: int64[N]."""
        return np.fromiter(map(len, self.ids), np.int64, len(self.ids))

    def batch(self, rows: npt.NDArray[np.int64], *, width: int | None = None) -> TokenBatch:
        """Rows padded on the right to the longest of them (one token at least), or to `width`."""
        longest = max(1, *(len(self.ids[row]) for row in rows)) if width is None else width
        batch = TokenBatch(
            np.full((len(rows), longest), self.pad_id, np.int64),
            np.zeros((len(rows), longest), np.int64),
            np.zeros((len(rows), longest), np.int64),
        )
        for at, row in enumerate(rows):
            size = len(self.ids[row])
            batch.ids_NT[at, :size] = self.ids[row]
            batch.mask_NT[at, :size] = 1
            batch.type_ids_NT[at, :size] = self.type_ids[row]
        return batch


@dataclass(frozen=True)
class Tokenizer:
    """A loaded tokenizer file whose own truncation and padding are off: they are leftovers of training."""

    inner: tokenizers.Tokenizer
    pad_id: int

    @classmethod
    def load(cls, file: Path, *, max_length: int) -> Tokenizer:
        """Read a `tokenizer.json`.

        Raises:
            ModelError: It is damaged, or adds more special tokens than `max_length` has room for.
        """
        try:
            inner = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing narrower
            raise ModelError(f"{file}: is no tokenizer file, or a damaged one: {error}") from error
        pad_id = _pad_id(inner)
        special = inner.num_special_tokens_to_add(is_pair=False)
        if max_length <= special:
            raise ModelError(f"{file}: adds {special} special tokens, and max_length is {max_length}")
        inner.no_padding()
        inner.enable_truncation(max_length)
        return cls(inner, pad_id)

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids of N texts."""
        encodings = self.inner.encode_batch_fast(list(texts))
        return Tokens([e.ids for e in encodings], [e.type_ids for e in encodings], self.pad_id)


def _pad_id(inner: tokenizers.Tokenizer) -> int:
    """The file's own; models such as RoBERTa count positions by it."""
    if inner.padding is not None:
        return int(inner.padding["pad_id"])
    found = (inner.token_to_id(token) for token in PADDING_TOKENS)
    return next((number for number in found if number is not None), 0)
