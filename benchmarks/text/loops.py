"""Loops over ONNX Runtime: the plain one that anybody writes, and the bare one that nothing can beat."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import tokenizers
from benchmarks.text.peers import Peer, Vectors, save, texts_of

Feeds = dict[str, npt.NDArray[np.int64]]
MAX_LENGTH = 256
PLAIN_BATCH = 32


def tokenizer_of(folder: Path) -> tokenizers.Tokenizer:
    """The model's, without the padding that its file asks for."""
    found = tokenizers.Tokenizer.from_file(str(folder / "minilm" / "tokenizer.json"))
    found.no_padding()
    found.enable_truncation(MAX_LENGTH)
    return found


def session_of(folder: Path, threads: int) -> Any:
    """The package's ONNX file; 0 threads are the runtime's own choice."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    file = str(folder / "package" / "model.onnx")
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def feeds_of(encoded: Sequence[tokenizers.Encoding]) -> Feeds:
    """A batch, padded to its longest text."""
    feeds = {
        name: np.zeros((len(encoded), max(len(each.ids) for each in encoded)), np.int64)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    for row, each in enumerate(encoded):
        feeds["input_ids"][row, : len(each.ids)] = each.ids
        feeds["attention_mask"][row, : len(each.ids)] = 1
    return feeds


def unit(vectors: npt.NDArray[Any]) -> Vectors:
    """Of length 1."""
    made: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return made


class Plain(Peer):
    """Texts in the catalog's order, 32 at a time, in one session that chooses its threads."""

    def ready(self) -> None:
        self.tokenizer, self.session = tokenizer_of(self.folder), session_of(self.folder, 0)

    def work(self) -> None:
        """Tokenizes each batch before it is computed."""
        texts = texts_of(self.source)
        batches = (texts[at : at + PLAIN_BATCH] for at in range(0, len(texts), PLAIN_BATCH))
        save(self.out, map(self._embedded, batches))

    def _embedded(self, texts: Sequence[str]) -> Vectors:
        return unit(self.session.run(None, feeds_of(self.tokenizer.encode_batch(texts)))[0])


class Bare(Peer):
    """The runtime alone: texts are tokenized, ordered by length and padded before, and nothing is written.

    Batches have so many tokens at most, padding included; sessions take the next one, the longest first.
    """

    def ready(self) -> None:
        encoded = tokenizer_of(self.folder).encode_batch(texts_of(self.source))
        self.lengths = np.array([len(each.ids) for each in encoded])
        self.batches = list(_packed(self.lengths, self.settings["budget"]))
        self.feeds = [feeds_of([encoded[row] for row in rows]) for rows in self.batches]
        threads, sessions = self.settings["threads"], self.settings["sessions"]
        self.sessions = [session_of(self.folder, threads) for _ in range(sessions)]
        self.found: list[Vectors | None] = [None] * len(self.batches)

    def work(self) -> None:
        """A thread for each session; nothing is written."""
        left: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in reversed(range(len(self.batches))):
            left.put(number)
        threads = [threading.Thread(target=self._run, args=(each, left)) for each in self.sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run(self, session: Any, left: queue.SimpleQueue[int]) -> None:
        while True:
            try:
                number = left.get_nowait()
            except queue.Empty:
                return
            self.found[number] = session.run(None, self.feeds[number])[0]

    def afterwards(self) -> dict[str, float]:
        """In the catalog's order."""
        made = np.concatenate([each for each in self.found if each is not None])
        vectors = np.zeros_like(made)
        vectors[np.concatenate(self.batches)] = unit(made)
        np.save(self.out, vectors)
        return {}


class Program(Peer):
    """The bare loop and what it needs: a process, imports, sessions, tokens, and a file of its vectors."""

    def ready(self) -> None:
        """Nothing: all of it counts."""

    def work(self) -> None:
        """From its start to its end."""
        words = ["bare loop", str(self.folder), str(self.source), json.dumps(self.settings), str(self.out)]
        command = [sys.executable, "-m", "benchmarks.text.job", *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _packed(lengths: npt.NDArray[np.int64], budget: int) -> Iterator[npt.NDArray[np.int64]]:
    """Rows of each batch, shortest texts first."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    for at, row in enumerate(order):
        if at > start and (at - start + 1) * lengths[row] > budget:
            yield order[start:at]
            start = at
    yield order[start:]
