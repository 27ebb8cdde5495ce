"""Texts to vectors on disk, with all-MiniLM-L6-v2: beside peers, a bare loop and the hardware's peak.

    make bench-text
    .venv/peers-text/bin/python -m benchmarks.text [--texts 4096] [--rounds 3] [--peers embedmill …] [--json]

Everybody does the same job: from one Parquet file of real texts (what Debian says of its packages) to
vectors on disk, with the same weights, each in a process of its own, in turns. The time in which a peer
gets ready (imports, its model) does not count, except where it is part of the job: embedmill's loops and
Ray's actors start in it. Each peer's settings are the best of a few, tried on the first --probe texts. The
bare loop has its texts tokenized and ordered before, and writes nothing; as a program it does that, too, from
the start of its process to its end. Useful operations are those of the texts' own tokens, without padding;
the peak is that of fused multiply-adds on all cores, measured in the same turns.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.support.measuring import Findings, Spread, Verdict, cores, in_turns, not_run, warned
from benchmarks.support.minilm import sentence_folder
from benchmarks.support.stores import BUILT, ROOT, write_pipeline
from benchmarks.text.flops import MINILM
from benchmarks.text.sample import TextsMissing, write_sample

from benchmarks import peak
from embedmill.model.sentence_transformers import import_sentence_transformers

OF_PEAK, OF_BARE, COSINE = 0.75, 0.95, 0.9999
TIMES = {"sentence-transformers": 1.6, "fastembed": 2.5, "Ray Data": 2.0, "plain loop": 2.5}
REFERENCE = "sentence-transformers"
LOOP, PROGRAM = "bare loop", "bare program"
Settings = Mapping[str, Any]


def choices() -> dict[str, list[Settings]]:
    """Of each peer, what is tried."""
    every = cores()
    shares = [(every, 1), (1, every)] if every > 1 else [(1, 1)]
    budgets = (256, 512, 1024, 2048)
    alone = {"threads": None, "parallel": None}
    apart = {"threads": 1, "parallel": 0}
    bare: list[Settings] = [{"budget": b, "sessions": s, "threads": t} for s, t in shares for b in budgets]
    return {
        "embedmill": [{}],
        "bare loop": bare,
        "bare program": [{}],
        "plain loop": [{}],
        "sentence-transformers": [{"batch": batch} for batch in (8, 32, 128)],
        "fastembed": [{"batch": batch, **how} for how in (alone, apart) for batch in (32, 256)],
        "Ray Data": [{"batch": batch} for batch in (64, 256)],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", type=int, default=4096)
    parser.add_argument("--probe", type=int, default=512, help="texts that settings are tried on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", nargs="+", choices=list(choices()), default=list(choices()))
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    lines = warned()
    folder = BUILT / "text"
    try:
        texts = prepared(folder, options.texts, options.probe)
    except TextsMissing as missing:
        return not_run(str(missing))
    names = [REFERENCE, *(name for name in options.peers if name != REFERENCE)]
    settings = {name: best(folder, name) for name in names}
    if PROGRAM in settings:  # on a few texts its start would choose
        settings[PROGRAM] = settings.get(LOOP) or best(folder, LOOP)
    figures = measured(folder, names, settings, options.rounds) | {"texts": len(texts)}
    figures |= {
        "tokens": (lengths := tokens(folder, texts)).sum().item(),
        "flops": MINILM.operations(lengths),
    }
    return Findings("bench-text/1", figures, [*lines, *shown(figures)], judged(figures)).tell(
        as_json=options.json
    )


def prepared(folder: Path, count: int, probe: int) -> list[str]:
    """The model in each peer's form, and `day-0` (all texts) and `day-1` (the first ones) as catalogs."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = write_sample(folder / "day-0.parquet", count)
    few = {"id": list(map(str, range(probe))), "text": texts[:probe]}
    pq.write_table(pa.table(few), folder / "day-1.parquet")
    for day in (0, 1):
        write_pipeline(folder, day=day, model="package", columns=("id", "text"))
    minilm = sentence_folder(folder)
    if not (folder / "package").is_dir():
        import_sentence_transformers(minilm, folder / "package", template="{text}")
    if not (folder / "fastembed").is_dir():
        shutil.copytree(minilm, folder / "fastembed")
        shutil.copy(folder / "package" / "model.onnx", folder / "fastembed")
        file = folder / "fastembed" / "tokenizer_config.json"
        said = json.loads(file.read_text()) if file.is_file() else {}
        file.write_text(json.dumps(said | {"model_max_length": 256}))
    return texts


def tokens(folder: Path, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Tokens of each text."""
    from benchmarks.text.loops import tokenizer_of

    return np.array([len(each.ids) for each in tokenizer_of(folder).encode_batch(texts)], np.int64)


def best(folder: Path, name: str) -> Settings:
    """The fastest of a peer's settings on a few texts."""
    tried = choices()[name]
    if len(tried) == 1:
        return tried[0]
    print(f"{name}: trying {len(tried)} settings", file=sys.stderr)
    return min(tried, key=lambda each: float(done(folder, name, each, "day-1.parquet")["seconds"]))


def done(folder: Path, name: str, settings: Settings, source: str = "day-0.parquet") -> dict[str, Any]:
    """One peer's job: its seconds."""
    out = folder / f"{name.replace(' ', '-')}.npy"
    words = [name, str(folder), str(folder / source), json.dumps(settings), str(out)]
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.text.job", *words], cwd=ROOT, capture_output=True, text=True
    )
    if run.returncode:
        raise SystemExit(f"{run.stderr}\n{name} {settings}: failed")
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def measured(
    folder: Path, names: Sequence[str], settings: Mapping[str, Settings], rounds: int
) -> dict[str, Any]:
    """Seconds of all, in turns, and the peak; the lowest cosine with the reference's vectors."""
    others: list[dict[str, float]] = []

    def job(name: str) -> float:
        found = done(folder, name, settings[name])
        if name == "embedmill":
            others.append(found["others"])
        return float(found["seconds"])

    with tempfile.TemporaryDirectory() as scratch:
        program = peak.compiled(Path(scratch))
        ways = {name: lambda name=name: job(name) for name in names}
        if program is not None:
            ways["peak"] = lambda: peak.gflops(program, cores(), 2.0)
        found = in_turns(ways, rounds)
    vectors = {name: np.load(folder / f"{name.replace(' ', '-')}.npy") for name in names}
    return {
        "peak_gflops": found.pop("peak", None),
        "seconds": found,
        "settings": dict(settings),
        "embedmill": {name: Spread.of(each[name] for each in others) for name in (others or [{}])[0]},
        "cosines": {name: lowest_cosine(vectors[name], vectors[REFERENCE]) for name in names},
    }


def lowest_cosine(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float:
    """Of vectors of the same texts."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def shown(figures: Mapping[str, Any]) -> list[str]:
    """Lines for people."""
    texts, peak_gflops = figures["texts"], figures["peak_gflops"]
    mean = figures["tokens"] / texts
    lines = [f"{texts:,} texts of {mean:.1f} tokens; {figures['flops'] / 1e9:,.0f} useful GFLOP"]
    lines.append(f"peak of FMA on all cores: {peak_gflops or 'not measured: there is no gcc'} GFLOP/s")
    lines += ["", f"{'':<24}{'texts a second':>26}{'GFLOP/s':>9}{'lowest cosine':>15}  settings"]
    for name, spread in figures["seconds"].items():
        gflops = figures["flops"] / spread.median / 1e9
        settings = ", ".join(f"{key} {value}" for key, value in figures["settings"][name].items())
        cosine = figures["cosines"][name]
        lines.append(f"{name:<24}{spread.per(texts)!s:>26}{gflops:>9.1f}{cosine:>15.7f}  {settings}")
    lines += ["", *(f"embedmill, {name}: {spread} s" for name, spread in figures["embedmill"].items())]
    return lines


def judged(figures: Mapping[str, Any]) -> list[Verdict]:
    """Beside the bounds, as far as it was measured."""
    seconds = {name: spread.median for name, spread in figures["seconds"].items()}
    mine = seconds.get("embedmill")
    if mine is None:
        return []
    verdicts = []
    if figures["peak_gflops"] is not None:
        share = figures["flops"] / mine / 1e9 / figures["peak_gflops"].median
        verdicts.append(Verdict("useful operations, of the peak", share, OF_PEAK))
    if "bare loop" in seconds:
        verdicts.append(Verdict("speed, of the bare loop's", seconds["bare loop"] / mine, OF_BARE))
    verdicts += [
        Verdict(f"speed, times that of {name}", seconds[name] / mine, times)
        for name, times in TIMES.items()
        if name in seconds
    ]
    return [
        *verdicts,
        Verdict("lowest cosine with sentence-transformers", figures["cosines"]["embedmill"], COSINE),
    ]


if __name__ == "__main__":
    sys.exit(main())
