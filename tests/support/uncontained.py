"""A `podman` that contains nothing: `run … IMAGE arguments` runs embedmill here, with these arguments.

For tests of what is around a container; what a container keeps in is shown with real ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROGRAM = """\
#!{python}
import os, sys
if sys.argv[1] == "--version":
    print("podman version 4.3.1")
elif sys.argv[1] == "run":
    image = next(place for place, each in enumerate(sys.argv) if each.startswith("sha256:"))
    os.execv({python!r}, [{python!r}, "-m", "embedmill", *sys.argv[image + 1 :]])
"""


def install_podman(folder: Path) -> Path:
    """The program, in a folder to be put on PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "podman"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    return program
