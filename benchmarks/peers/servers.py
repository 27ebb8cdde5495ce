"""The servers: ours over a release, and infinity over the same weights; each in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from benchmarks.support.minilm import sentence_folder

from embedmill import Pipeline
from embedmill.model.sentence_transformers import import_sentence_transformers

ROOT = Path(__file__).resolve().parents[2]
INFINITY = ROOT / ".venv" / "peers-infinity" / "bin"
GATES = {"quarantine": 1.0, "empty": 1.0, "churn": 1.0}
PATIENT = {"patience": 1e6, "wait_s": 600.0, "queue_rows": 100_000, "answer_s": 600.0, "cache_bytes": 0}
"""Limits of a server whose callers would rather wait: the other has none."""


def minilm(folder: Path) -> Path:
    """all-MiniLM-L6-v2, as both servers read it."""
    return sentence_folder(folder, str(INFINITY / "python"))


def published(folder: Path, model: Path, texts: list[str]) -> Path:
    """A pipeline whose live release has these texts."""
    if not (folder / "package").is_dir():
        import_sentence_transformers(model, folder / "package", template="{text}")
    return publish(folder, "peers", folder / "package", texts, PATIENT)


def publish(folder: Path, name: str, package: Path, texts: list[str], serving: Mapping[str, Any]) -> Path:
    """Publish texts as items `0`, `1`, …; the pipeline's file."""
    rows = {"id": list(map(str, range(len(texts)))), "text": texts}
    pq.write_table(pa.table(rows), folder / f"{name}.parquet")
    spec = {
        "name": name,
        "catalog": {"source": f"{name}.parquet", "id": "id", "display": ["text"]},
        "model": str(package),
        "store": "./mill",
        "gates": GATES,
        "serving": serving,
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(spec))
    Pipeline.from_file(file).run()
    return file


@contextmanager
def embedmill(pipeline: Path, threads: int) -> Iterator[str]:
    """The URL of our server, until the block ends."""
    command = [sys.executable, "-m", "embedmill", "serve", str(pipeline), "--threads", str(threads)]
    with _running([*command, "--drain", "0"], "--port", "/readyz") as url:
        yield url


@contextmanager
def infinity(model: Path, threads: int) -> Iterator[str]:
    """The URL of infinity with torch on CPU, until the block ends."""
    command = [str(INFINITY / "infinity_emb"), "v2", "--model-id", str(model), "--engine", "torch"]
    options = [
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--served-model-name",
        "minilm",
        "--host",
        "127.0.0.1",
    ]
    quiet = {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with _running([*command, *options], "--port", "/health", **quiet, OMP_NUM_THREADS=str(threads)) as url:
        yield url


@contextmanager
def _running(command: list[str], port_option: str, ready: str, **environment: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*command, port_option, str(port)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(f"http://127.0.0.1:{port}{ready}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - an address of our own
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise SystemExit(f"{process.args}: not ready")
