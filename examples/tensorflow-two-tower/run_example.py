"""What `make two-tower` runs: a TensorFlow model from training to two live releases on one platform.

    python examples/tensorflow-two-tower/run_example.py

Everything lies in ./two-tower afterwards. Each step is echoed as the command that you would type.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

HERE = Path(os.path.relpath(Path(__file__).parent))
DEMO = HERE.parent / "demo"
sys.path.append(str(DEMO))

from run_demo import StepFailed, find_embedmill, find_model, headline, relative, show  # noqa: E402

GATE_FAILED = 3


def main() -> int:
    """Run all steps; the first that does not end as it should ends the example."""
    parser = argparse.ArgumentParser(description="Train, embed, evaluate, retrain worse, be stopped.")
    parser.add_argument("--folder", type=Path, default=Path("two-tower"))
    parser.add_argument("--epochs", type=int, default=25, help="of the good training (%(default)s)")
    options = parser.parse_args()
    started = time.monotonic()
    try:
        run(options.folder, options.epochs)
    except StepFailed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the same command starts over, with what is built already.", file=sys.stderr)
        return 130
    print(f"\nDone in {time.monotonic() - started:.0f} s.")
    return 0


def run(folder: Path, epochs: int) -> None:
    """From pictures to releases, and what stops a worse one."""
    headline("The catalog: the demo's pictures, names and categories; tags, and items kept from training")
    python("build the catalog", DEMO / "build_catalog.py", str(folder / "catalog"))
    python("prepare the items", HERE / "items.py", str(folder))
    shutil.rmtree(folder / "mill", ignore_errors=True)  # the story begins without releases, each time
    for file in ("text.yaml", "towers.yaml"):
        shutil.copyfile(HERE / file, folder / file)
    shutil.copyfile(HERE / "model.yaml", folder / "export" / "model.yaml")

    headline("One use case: texts only, with a model trained elsewhere")
    package = folder / "models" / "minilm"
    shutil.rmtree(package, ignore_errors=True)
    mill(
        "import MiniLM",
        "model",
        "import",
        relative(find_model()),
        "--out",
        str(package),
        "--template",
        "{name}",
    )
    mill("embed by text", "run", str(folder / "text.yaml"))

    headline("The other: a TensorFlow model of our own. First a quick one, then one that is trained")
    release(folder, epochs=1)
    release(folder, epochs=epochs)

    headline("Are they any good?")
    python("evaluate", HERE / "evaluate.py", str(folder))

    headline("A retrain that went wrong: nothing learned. The relevance gate must stop it")
    release(folder, epochs=0, code=GATE_FAILED)
    mill("show who is live", "release", "ls", str(folder / "towers.yaml"))


def release(folder: Path, *, epochs: int, code: int = 0) -> None:
    """Train, export, import, embed the catalog, and publish unless a gate says no."""
    package, export = folder / "models" / "towers", folder / "export"
    python("train", HERE / "train.py", str(folder), "--epochs", str(epochs))
    shutil.rmtree(package, ignore_errors=True)
    mill(
        "import the towers",
        *("model", "import", str(export / "towers"), "--spec", str(export / "model.yaml")),
        *("--out", str(package)),
    )
    mill("embed", "run", str(folder / "towers.yaml"), code=code)


def python(step: str, script: Path, *arguments: str) -> None:
    """Run a script."""
    show(step, [relative(Path(sys.executable)), str(script), *arguments])


def mill(step: str, *arguments: str, code: int = 0) -> None:
    """Run an `embedmill` command."""
    show(step, [find_embedmill(), *arguments], code=code)


if __name__ == "__main__":
    sys.exit(main())
