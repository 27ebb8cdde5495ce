"""A catalog becomes a release with a TensorFlow package, and what did not change is not computed again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
import yaml
from tests import tiny_text
from tests.tensorflow_group.models import tiny_text_package

from embedmill import Release
from embedmill.model import Encoder, ModelPackage

WORDS = ["warm winter jacket", "light rain coat", "wool socks", "leather boots", "straw hat", "silk scarf"]


def catalog(folder: Path, count: int, *, changed: int = 0) -> None:
    titles = [f"{WORDS[n % 6]} {n}{' new' if n < changed else ''}" for n in range(count)]
    columns = {"sku": [f"s{n}" for n in range(count)], "title": titles, "category": ["clothes"] * count}
    pq.write_table(pa.table(columns), folder / "items.parquet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_text_package(tmp_path / "model")
    spec = {
        "name": "clothes",
        "catalog": {"source": "items.parquet", "id": "sku", "display": ["title"]},
        "model": "model",
        "store": "mill",
        "gates": {"churn": 1.0},
    }
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(spec))
    return tmp_path


def embedmill(folder: Path, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "embedmill", *arguments, "pipeline.yaml", "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_run_publishes_what_tensorflow_computes_and_a_second_one_only_what_changed(folder: Path) -> None:
    catalog(folder, 60)
    first = embedmill(folder, "run")
    catalog(folder, 60, changed=3)
    second = embedmill(folder, "run")
    assert (first["computed"], second["computed"]) == (60, 3)
    ids, vectors = Release.open(second["url"]).to_numpy()
    rows = dict(zip(list(ids), vectors, strict=True))
    assert len(rows) == 60
    with Encoder.load(ModelPackage.open(folder / "model")) as encoder:
        assert encoder.runtime.name == "tensorflow"
        texts = pa.record_batch({"title": [f"{WORDS[5]} 5"], "category": ["clothes"]})
        np.testing.assert_allclose(rows["s5"], encoder.encode(texts).vectors_ND[0], atol=1e-6)
    tokens = np.array([[1, *_bytes(f"{WORDS[5]} 5. clothes")]])
    wanted = tiny_text.reference(tokens, np.ones_like(tokens), dimension=16)[0]
    np.testing.assert_allclose(rows["s5"], wanted / np.linalg.norm(wanted), atol=1e-6)


def _bytes(text: str) -> list[int]:
    """Token ids of the byte tokenizer, for ASCII."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    return [2 + alphabet.index("Ġ" if letter == " " else letter) for letter in text]
