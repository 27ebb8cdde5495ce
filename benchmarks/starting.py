"""How long until a command has done nothing? `embedmill --help`, and `plan` of a catalog that did not change.

    python -m benchmarks.starting [--items 3700] [--rounds 9] [--pipeline demo/pipeline.yaml] [--json]

The catalog has so many items and one release, of which each `plan` finds everything unchanged. With
`--pipeline` it is that one, which must be published and up to date; each `plan` leaves it an open run, as
`embedmill plan` does. The package's bytecode is made before, as installing makes it: compiling takes longer
than a command. CPU seconds of a command are shown, too: on a machine that is not idle they say more.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.support.measuring import Findings, Spread, Verdict, in_turns, seconds_of, warned
from benchmarks.support.stores import published
from benchmarks.support.words import Words

import embedmill

HELP_S, PLAN_S = 0.25, 1.5
HEAVY = ("numpy", "pyarrow", "pydantic", "onnxruntime", "faiss", "tokenizers")
LOADED = """
import json, sys
from embedmill.cli import main
sys.argv = ["embedmill", "--help"]
try:
    main()
finally:
    print(json.dumps([name for name in {names} if name in sys.modules]), file=sys.stderr)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=3700)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pipeline", type=Path, help="a pipeline.yaml of yours, instead of a made catalog")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    lines = warned()
    compileall.compile_dir(Path(embedmill.__file__).parent, quiet=2)
    processor: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        pipeline = options.pipeline or made(Path(folder), options.items)
        ways = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "embedmill --help": [sys.executable, "-m", "embedmill", "--help"],
            "embedmill plan, unchanged": [sys.executable, "-m", "embedmill", "plan", str(pipeline)],
        }
        found = in_turns(
            {
                name: lambda name=name, command=command: seconds(command, processor.setdefault(name, []))
                for name, command in ways.items()
            },
            options.rounds,
            unmeasured=1,
        )
    cpu = {name: Spread.of(each[1:]) for name, each in processor.items()}
    lines += [f"{name:<28}{spread!s:>28} s" for name, spread in found.items()]
    lines += [f"{name + ', CPU':<28}{spread!s:>28} s" for name, spread in cpu.items()]
    heavy = loaded_by_help()
    lines.append(f"{'embedmill --help imports':<28}{', '.join(heavy) or 'none of ' + ', '.join(HEAVY):>28}")
    verdicts = [
        Verdict("embedmill --help, s", found["embedmill --help"].median, HELP_S, at_least=False),
        Verdict("embedmill plan, s", found["embedmill plan, unchanged"].median, PLAN_S, at_least=False),
    ]
    return Findings(
        "bench-starting/1", {"seconds": found, "cpu": cpu, "help_imports": heavy}, lines, verdicts
    ).tell(as_json=options.json)


def made(folder: Path, items: int) -> Path:
    """A published pipeline in a folder."""
    words = Words(dimension=64)
    words.write_package(folder / "model")
    words.write_catalog(folder / "day-0.parquet", items)
    return published(folder, index={"kind": "flat"})


def seconds(command: Sequence[str], processor: list[float]) -> float:
    """Of a command whose output nobody reads; its CPU seconds are added to `processor`."""
    before = os.times()
    took = seconds_of(
        lambda: subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=plain()
        )
    )
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    processor.append(used)
    return took


def plain() -> Mapping[str, str]:
    """The environment, and no colours."""
    return {**os.environ, "NO_COLOR": "1"}


def loaded_by_help() -> list[str]:
    """Which of the heavy libraries `--help` imports."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(names=list(HEAVY))], capture_output=True, text=True, env=plain()
    )
    found: list[str] = json.loads(done.stderr.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
