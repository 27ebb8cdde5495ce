"""Libraries that cannot be imported, by a process and by all that it starts, though they are installed."""

from __future__ import annotations

from pathlib import Path

BLOCKER = """\
import os, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["TEST_BLOCKED"].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""
"""A sitecustomize.py: Python imports it first, in the command and in every process that it starts."""


def blocking(folder: Path, libraries: str) -> dict[str, str]:
    """The environment of a process that cannot import these, which are separated by spaces."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(BLOCKER)
    return {"PYTHONPATH": str(folder), "TEST_BLOCKED": libraries}
