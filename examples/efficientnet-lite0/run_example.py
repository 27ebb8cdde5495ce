"""Real pictures, a real network, a release; then: what looks like what?

    python examples/efficientnet-lite0/run_example.py

Everything lies in ./efficientnet-lite0 afterwards. What is there already is not made again.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
LIKE = {"1F34E": "red apple", "1F697": "car", "1F600": "grinning face", "1F41F": "fish", "1F3E0": "house"}
"""Pictures whose neighbours are shown, where the catalog has them."""


def main() -> int:
    """Run all steps; the first that fails ends it."""
    parser = argparse.ArgumentParser(description="Embed pictures with EfficientNet-Lite0.")
    parser.add_argument(
        "--folder", type=Path, default=Path("efficientnet-lite0"), help="where everything goes"
    )
    parser.add_argument("--most", type=int, help="so many pictures at most")
    options = parser.parse_args()
    started = time.monotonic()
    try:
        make(options.folder, options.most)
        neighbours(options.folder / "pipeline.yaml")
    except subprocess.CalledProcessError as failure:
        print(f"\nStopped: exit code {failure.returncode} of {shlex.join(failure.cmd)}", file=sys.stderr)
        return 1
    print(f"\nDone in {time.monotonic() - started:.0f} s. {CREDITS}")
    return 0


def make(folder: Path, most: int | None) -> None:
    """Catalog, model package and release."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "catalog" / "pictures.parquet").is_file():
        limit = [] if most is None else ["--most", str(most)]
        show([sys.executable, str(HERE / "render_pictures.py"), str(folder / "catalog"), *limit])
    package = folder / "models" / "efficientnet-lite0"
    if not (package / "model.yaml").is_file():
        converted = folder / "converted"
        show([sys.executable, str(HERE / "convert_weights.py"), str(converted)])
        declared = ["--spec", str(converted / "model.yaml"), "--out", str(package)]
        show([mill(), "model", "import", str(converted / "model.onnx"), *declared])
    shutil.copyfile(HERE / "pipeline.yaml", folder / "pipeline.yaml")
    show([mill(), "run", str(folder / "pipeline.yaml")])


def neighbours(spec: Path) -> None:
    """Show what looks like some pictures."""
    from embedmill import Pipeline

    release = Pipeline.from_file(spec).live()
    if release is None:
        raise SystemExit(f"{spec}: nothing is published")
    ids, _ = release.to_numpy()
    known = [item for item in LIKE if item in set(ids)] or list(ids)[:5]
    print(f"\n{len(ids):,} pictures. What looks like what:")
    for item in known:
        hits = [hit for hit in release.search(item=item, k=6) if hit.id != item]
        found = ", ".join(f"{hit.fields['name']} ({hit.score:.2f})" for hit in hits[:5])
        print(f"  {LIKE.get(item, item)}: {found}")


def mill() -> str:
    """The `embedmill` command beside this Python."""
    return str(Path(sys.executable).with_name("embedmill"))


def show(command: Sequence[str]) -> None:
    """Echo a command, then run it."""
    print(f"\n$ {shlex.join(command)}", flush=True)
    subprocess.run(command, check=True)


CREDITS = "Pictures: OpenMoji (https://openmoji.org), CC BY-SA 4.0. Network: EfficientNet-Lite0, Apache-2.0."

if __name__ == "__main__":
    sys.exit(main())
