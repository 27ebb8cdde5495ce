"""How fast is `embedmill serve`? Beside infinity on the same weights, its bare encoder, and bare FAISS.

    make bench-peers          python -m benchmarks.peers [--seconds 15] [--vectors 1000000] [--json]

Servers are asked in turns, so that a busy machine slows all of them. What counts are the ratios.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.peers.asking import Ask, Measured, ask_for
from benchmarks.peers.servers import ROOT, embedmill, infinity, minilm, publish, published
from benchmarks.support.measuring import machine
from tests.models import tiny_text_package

from embedmill import Pipeline
from embedmill.release.reader import Release
from embedmill.release.search import search_effort

CALLERS = (1, 8, 64)
TURNS = 5
THREADS = 1
DIMENSION = 384
WORDS = [
    "warm",
    "winter",
    "jacket",
    "light",
    "rain",
    "coat",
    "wool",
    "socks",
    "leather",
    "boots",
    "straw",
    "hat",
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15.0, help="a server and number of callers, in all")
    parser.add_argument("--vectors", type=int, default=1_000_000, help="of the release that is searched")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    folder = ROOT / "build" / "bench-peers"
    folder.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"schema": "bench-peers/1", "machine": machine()}
    document["embedding"] = embedding(folder, options.seconds)
    document["search"] = searching(folder, options.vectors, options.seconds)
    print(json.dumps(document, default=asdict) if options.json else shown(document))
    return 0


def text(number: int) -> str:
    """Some thirty tokens that nobody asked for before."""
    return " ".join(np.random.default_rng(number).choice(WORDS, 28)) + f" {number}"


def embedding(folder: Path, seconds: float) -> dict[str, Any]:
    """Texts a second of both servers and of the bare encoder, in turns."""
    model = minilm(folder)
    pipeline = published(folder, model, [text(number) for number in range(500)])
    release = Pipeline.from_file(pipeline).live()
    found: dict[str, Any] = {}
    with embedmill(pipeline, THREADS) as our_url, infinity(model, THREADS) as their_url:
        servers = {
            "embedmill": (f"{our_url}/v1/embeddings", _texts_for("peers-query_text")),
            "infinity": (f"{their_url}/embeddings", _texts_for("minilm")),
        }
        for callers in CALLERS:
            ways = {name: _asked(url, ask, callers) for name, (url, ask) in servers.items()}
            if callers == CALLERS[-1]:
                ways["bare encoder"] = _encoded(release)
            found[f"{callers} callers"] = in_turns(ways, seconds)
    return found


def searching(folder: Path, count: int, seconds: float) -> dict[str, Any]:
    """Searches by vector, by the server and by FAISS with the same index and effort."""
    package = folder / "tiny"
    if not package.is_dir():
        tiny_text_package(package, dimension=DIMENSION, template="{text}")
    name = f"search-{count}"
    pipeline = folder / f"{name}.yaml"
    if not pipeline.is_file():
        publish(
            folder,
            name,
            package,
            [text(number) for number in range(count)],
            {"patience": 1e6, "wait_s": 600.0},
        )
    release = Pipeline.from_file(pipeline).live()
    queries = np.random.default_rng(1).standard_normal((4096, DIMENSION)).astype(np.float32)
    with embedmill(pipeline, THREADS) as url:
        ways = {
            "embedmill": _asked(f"{url}/search", _vectors(queries), 1),
            "bare FAISS": _searched(release, queries),
        }
        return {"vectors": count, "1 caller": in_turns(ways, seconds)}


Way = Callable[[float, int], list[float]]
"""Asks for some seconds, with requests from a number on: seconds of each answer."""


def in_turns(ways: dict[str, Way], seconds: float) -> dict[str, Measured]:
    """Each way in turn, several times; the first turn does not count."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    spent = dict.fromkeys(ways, 0.0)
    for turn in range(TURNS + 1):
        for name, way in ways.items():
            started = time.monotonic()
            answers = way(seconds / TURNS if turn else 1.0, 1_000_000 * (turn + 1))
            if turn:
                took[name] += answers
                spent[name] += time.monotonic() - started
    return {name: Measured.of(took[name], spent[name]) for name in ways}


def _texts_for(model: str) -> Ask:
    return lambda number: {"input": text(number), "model": model}


def _vectors(queries: np.ndarray) -> Ask:
    return lambda number: {"vector": queries[number % len(queries)].tolist(), "k": 10}


def _asked(url: str, ask: Ask, callers: int) -> Way:
    return lambda seconds, first: ask_for(url, ask, callers, seconds, first)


def _encoded(release: Release) -> Way:
    """Batches of 32, as the server's largest; each text counts with the seconds of its batch."""
    encoder = release.encoder("query_text")

    def encode(seconds: float, first: int) -> list[float]:
        found: list[float] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            texts = [text(first + len(found) + row) for row in range(32)]
            started = time.monotonic()
            encoder.encode_texts(texts)
            found += [time.monotonic() - started] * 32
        return found

    return encode


def _searched(release: Release, queries: np.ndarray) -> Way:
    """The release's own index file, read by FAISS itself; its segments in turn."""
    import faiss

    files = [release.folder / segment.index.path for segment in release.content.segments if segment.index]
    indexes = [faiss.read_index(str(file)) for file in files]
    effort = max(search_effort(release.content, each) for each in release.content.segments if each.index)
    parameters = faiss.SearchParametersHNSW(efSearch=effort)
    faiss.omp_set_num_threads(1)

    def search(seconds: float, first: int) -> list[float]:
        found: list[float] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            started = time.monotonic()
            for index in indexes:
                index.search(queries[(first + len(found)) % len(queries)][None], 10, params=parameters)
            found.append(time.monotonic() - started)
        return found

    return search


def shown(document: dict[str, Any]) -> str:
    """A table for people."""
    lines = [document["machine"], f"{'':<28} {'a second':>10} {'p50, ms':>10} {'p99, ms':>10}"]
    groups = {
        **document["embedding"],
        f"search of {document['search']['vectors']}": document["search"]["1 caller"],
    }
    for group, ways in groups.items():
        for name, measured in ways.items():
            row = asdict(measured)
            numbers = "".join(f"{row[key]:>11.1f}" for key in ("rate", "p50_ms", "p99_ms"))
            lines.append(f"{group + ', ' + name:<28} {numbers}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
