"""Catalogs of any size whose vectors lie in clusters: texts of words, and a real model that averages words.

Most words of a text belong to its topic, the others to none; the vector of a text is the mean of its words'
vectors, so that texts of a topic are near each other. Words' vectors have a spectrum that falls, as those
of trained models do. A block of rows is a function of its number and the day, so that any of them is made
alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tokenizers
import yaml
from onnx import TensorProto, helper
from tests.models import save_onnx

Numbers = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

BLOCK = 20_000
VOCABULARY, TOPICS, CATEGORIES = 8_000, 2_000, 50
OF_TOPIC, OF_ALL, FEWEST = 9, 5, 5
"""Words of its topic and of all words that a text may have; in random order, five or more are it."""
TOPIC_WORDS = 16
SPECTRUM = 0.37
"""Component j of a word's vector has the scale (j + 1) ** -SPECTRUM: vectors spread over as many directions
as those that all-MiniLM-L6-v2 makes of descriptions of packages (participation ratio of 192 of them: 60)."""
UNKNOWN = 1
FIRST_WORD = 2
COPIES_EVERY = 20
CHANGED_EVERY = 200
"""Of 20 rows the first copies the one before. On day 1, rows 19 and 20 of each 200 have another text."""

SCHEMA = pa.schema(
    [("sku", pa.string()), ("title", pa.string()), ("category", pa.string()), ("price", pa.float64())]
)
TEMPLATE = "{title} {category}"


@dataclass(frozen=True)
class Words:
    """The generator; two of the same seed and dimension make the same rows and vectors."""

    dimension: int = 384
    seed: int = 0

    @cached_property
    def names(self) -> list[str]:
        """Of every token: padding, what is unknown, words, categories."""
        words = [f"word{number}" for number in range(VOCABULARY)]
        return ["[PAD]", "[UNK]", *words, *(f"category{number}" for number in range(CATEGORIES))]

    @cached_property
    def table(self) -> Vectors:
        """Each token's vector: float32[tokens, D]; that of padding is zero."""
        scales = (np.arange(self.dimension) + 1.0) ** -SPECTRUM
        table = np.random.default_rng(self.seed).normal(size=(len(self.names), self.dimension)) * scales
        table[0] = 0.0
        return table.astype(np.float32)

    @cached_property
    def _topics(self) -> Numbers:
        """The words of each topic: int64[topics, TOPIC_WORDS]."""
        random = np.random.default_rng([self.seed, 1])
        return random.integers(VOCABULARY, size=(TOPICS, TOPIC_WORDS)) + FIRST_WORD

    def tokens(self, block: int, rows: int, *, day: int = 0) -> Numbers:
        """Tokens of a block's first rows: int64[rows, words + 1], 0 where it has ended; last its category."""
        made = self._fresh(block, 0)
        if day:
            numbers = np.arange(BLOCK) % CHANGED_EVERY
            changed = (numbers == COPIES_EVERY - 1) | (numbers == COPIES_EVERY)
            made = np.where(changed[:, None], self._fresh(block, day), made)
        return made[:rows]

    def _fresh(self, block: int, day: int) -> Numbers:
        random = np.random.default_rng([self.seed, 2, day, block])
        topics = random.integers(TOPICS, size=BLOCK)
        own = self._topics[topics[:, None], random.integers(TOPIC_WORDS, size=(BLOCK, OF_TOPIC))]
        others = random.integers(VOCABULARY, size=(BLOCK, OF_ALL)) + FIRST_WORD
        words = random.permuted(np.concatenate([own, others], axis=1), axis=1)
        lengths = random.integers(FEWEST, OF_TOPIC + OF_ALL + 1, size=BLOCK)
        words[np.arange(words.shape[1]) >= lengths[:, None]] = 0
        made = np.concatenate([words, (FIRST_WORD + VOCABULARY + topics % CATEGORIES)[:, None]], axis=1)
        made[COPIES_EVERY::COPIES_EVERY] = made[COPIES_EVERY - 1 : -1 : COPIES_EVERY]
        return made

    def vectors(self, tokens_NT: Numbers) -> Vectors:
        """What the model makes of tokens: float32[N, D], of unit length."""
        sums = self.table[tokens_NT].sum(axis=1, dtype=np.float64)
        made: Vectors = (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)
        return made

    def blocks(self, items: int, *, day: int = 0) -> Iterator[pa.Table]:
        """The catalog of so many items on a day, in tables of up to BLOCK rows."""
        for block in range(-(-items // BLOCK)):
            start = block * BLOCK
            yield self._table(start, self.tokens(block, min(BLOCK, items - start), day=day))

    def _table(self, start: int, tokens_NT: Numbers) -> pa.Table:
        names = pa.array(self.names)
        words = [names.take(pa.array(column, mask=column == 0)) for column in tokens_NT[:, :-1].T]
        titles = pc.binary_join_element_wise(*words, " ", null_handling="skip")
        numbers = np.arange(start, start + len(tokens_NT))
        ids = pc.binary_join_element_wise("sku", pc.utf8_lpad(pa.array(numbers).cast("string"), 10, "0"), "-")
        prices = np.round(np.random.default_rng([self.seed, 3, start]).random(len(numbers)) * 100, 2)
        columns = [ids, titles, names.take(pa.array(tokens_NT[:, -1])), pa.array(prices)]
        return pa.table(columns, schema=SCHEMA)

    def changed_texts(self, items: int, day: int = 1) -> int:
        """How many different texts a catalog has on a day that it did not have on day 0."""
        texts = [
            {
                tuple(row)
                for block in range(-(-items // BLOCK))
                for row in self._maybe_changed(block, items, on)
            }
            for on in (0, day)
        ]
        return len(texts[1] - texts[0])

    def _maybe_changed(self, block: int, items: int, day: int) -> list[list[int]]:
        tokens = self.tokens(block, min(BLOCK, items - block * BLOCK), day=day)
        numbers = np.arange(len(tokens)) % CHANGED_EVERY
        changed: list[list[int]] = tokens[(numbers == COPIES_EVERY - 1) | (numbers == COPIES_EVERY)].tolist()
        return changed

    def write_catalog(self, file: Path, items: int, *, day: int = 0) -> None:
        """One Parquet file; what is there already is kept."""
        if file.is_file():
            return
        partial = file.with_suffix(".part")
        with pq.ParquetWriter(partial, SCHEMA) as writer:
            for table in self.blocks(items, day=day):
                writer.write_table(table)
        partial.rename(file)

    def write_package(self, folder: Path) -> None:
        """The model as a package: words become tokens, and vectors the mean of theirs."""
        folder.mkdir(parents=True)
        numbers = {name: number for number, name in enumerate(self.names)}
        tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token=self.names[UNKNOWN]))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
        tokenizer.save(str(folder / "tokenizer.json"))
        self._write_graph(folder / "model.onnx")
        text = {"max_length": 64}
        declared = {
            "name": "words",
            "runtimes": [{"kind": "onnx", "file": "model.onnx"}],
            "dimension": self.dimension,
            "normalize": "l2",
            "encoders": {
                "item": {"input_ids": {"text": {"template": TEMPLATE, **text}}},
                "query_text": {"input_ids": {"text": {"template": "{query}", **text}}},
            },
        }
        (folder / "model.yaml").write_text(yaml.safe_dump(declared, sort_keys=False))

    def _write_graph(self, file: Path) -> None:
        """Sums of words' vectors: padding's is zero, so that no mask is needed; lengths are made 1 later."""
        nodes = [
            helper.make_node("Gather", ["table", "input_ids"], ["of_tokens"]),
            helper.make_node("ReduceSum", ["of_tokens", "axis"], ["vectors"], keepdims=0),
        ]
        inputs: list[Any] = [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "tokens"])
        ]
        outputs = [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["rows", self.dimension])]
        save_onnx(
            file, nodes, inputs, outputs, weights={"table": self.table, "axis": np.array([1], np.int64)}
        )
