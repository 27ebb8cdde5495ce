"""How good is the search? Both live releases and a draw of lots, by the items that training never saw.

    python examples/tensorflow-two-tower/evaluate.py two-tower

Recall@10: of what should be found, the share that is among the first ten (of ten, where there is more).

The two towers are ours, `text only` is MiniLM over names, `random` draws vectors by lot.

  by name       each held-out item by its name, among all items
  misspelt      the same with two neighbouring letters in the wrong order
  by category   the held-out items of each subcategory, among all held-out ones
  by picture    the same by each held-out picture, mirrored: what a text model cannot do

Ends with 1 unless the towers beat both baselines by the mean of the first three.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from items import category_query, misspelt
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

from embedmill import EmbedmillError, Pipeline, Release

TOP = 10
SEED = 7
TEXT_MEASURES = ("by name", "misspelt", "by category")
Array = npt.NDArray[Any]
Encode = Callable[[Sequence[str]], Array]
See = Callable[[Sequence[bytes]], Array]


@dataclass(frozen=True)
class Heldout:
    """The items that training never saw: positions in the release, and what to ask for them."""

    rows: Array
    names: list[str]
    typed: list[str]
    kinds: Array
    pictures: list[bytes]


def main() -> int:
    """Evaluate; print a table, or JSON."""
    parser = argparse.ArgumentParser(description="Recall@10 of both pipelines on held-out items.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("two-tower"))
    parser.add_argument("--json", action="store_true", help="print figures as one JSON document")
    options = parser.parse_args()
    try:
        found = evaluate(options.folder)
    except EmbedmillError as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(found))
    else:
        show(found)
    best = max(mean(scores) for model, scores in found.items() if model != "two towers")
    return 0 if mean(found["two towers"]) > best else 1


def evaluate(folder: Path) -> dict[str, dict[str, float]]:
    """Measure → recall@10, for each model."""
    towers, text = live(folder / "towers.yaml"), live(folder / "text.yaml")
    table = pq.read_table(folder / "items" / "items.parquet")
    chance = np.random.default_rng(SEED)

    def lots(values: Sequence[object]) -> Array:
        return chance.normal(size=(len(values), 64))

    ids, vectors = towers.to_numpy()
    scores = {"two towers": measure(vectors, heldout(table, ids), typed(towers), pictured(towers))}
    ids, vectors = text.to_numpy()
    scores["text only"] = measure(vectors, heldout(table, ids), typed(text), None)
    scores["random"] = measure(lots(list(ids)), heldout(table, ids), lots, lots)
    return scores


def live(pipeline: Path) -> Release:
    """What a pipeline has published last."""
    release = Pipeline.from_file(pipeline).live()
    if release is None:
        raise SystemExit(f"{pipeline}: nothing is published yet; run_example.py does")
    return release


def typed(release: Release) -> Encode:
    """A release's encoder of texts."""
    return lambda texts: release.encoder("query_text").encode_texts(texts)


def pictured(release: Release) -> See:
    """A release's encoder of pictures."""
    return lambda images: release.encoder("query_image").encode(pa.record_batch({"image": images})).vectors_ND


def heldout(table: pa.Table, ids: Array) -> Heldout:
    """The held-out items, where they stand among `ids`."""
    hidden = table.filter(table["held_out"])
    where = {id_: row for row, id_ in enumerate(ids.tolist())}
    chance = random.Random(SEED)
    names = hidden["name"].to_pylist()
    return Heldout(
        rows=np.array([where[id_] for id_ in hidden["id"].to_pylist()]),
        names=names,
        typed=[misspelt(name, chance) for name in names],
        kinds=np.array([category_query(kind) for kind in hidden["subcategory"].to_pylist()], object),
        pictures=[mirrored(image) for image in hidden["image"].to_pylist()],
    )


def mirrored(image: bytes) -> bytes:
    """The picture seen in a mirror, as PNG."""
    target = io.BytesIO()
    ImageOps.mirror(Image.open(io.BytesIO(image)).convert("RGBA")).save(target, "PNG")
    return target.getvalue()


def measure(vectors: Array, held: Heldout, encode: Encode, see: See | None) -> dict[str, float]:
    """Recall@10 by each way to ask; a model that sees no pictures has none for those."""
    own = vectors[held.rows]
    kinds = sorted(set(held.kinds))
    itself = [{row} for row in held.rows.tolist()]
    alike = {kind: set(np.flatnonzero(held.kinds == kind).tolist()) for kind in kinds}
    found = {
        "by name": recall(encode(held.names) @ vectors.T, itself),
        "misspelt": recall(encode(held.typed) @ vectors.T, itself),
        "by category": recall(encode(kinds) @ own.T, [alike[kind] for kind in kinds]),
    }
    if see is not None:
        wanted = [alike[kind] for kind in held.kinds]
        found["by picture"] = recall(see(held.pictures) @ own.T, wanted)
    return found


def recall(scores: Array, wanted: Sequence[set[int]]) -> float:
    """Recall@10: scores float[Q, N], and which columns each query should find."""
    top = np.argsort(-scores, axis=1, kind="stable")[:, :TOP].tolist()
    shares = [len(right & set(hits)) / min(TOP, len(right)) for hits, right in zip(top, wanted, strict=True)]
    return float(np.mean(shares))


def mean(scores: Mapping[str, float]) -> float:
    """Of the three ways to ask by text."""
    return float(np.mean([scores[name] for name in TEXT_MEASURES]))


def show(found: Mapping[str, Mapping[str, float]]) -> None:
    """A line for each model."""
    measures = [*TEXT_MEASURES, "by picture"]
    table = Table("recall@10", *measures, "mean of texts")
    for model, scores in found.items():
        cells = [f"{scores[name]:.3f}" if name in scores else "–" for name in measures]
        table.add_row(model, *cells, f"{mean(scores):.3f}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
