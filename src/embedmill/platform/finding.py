"""The pipelines that are meant: files as they are named, and every pipeline.yaml below a folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from embedmill.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

NAME = "pipeline.yaml"


def find_pipelines(paths: Iterable[Path]) -> list[Path]:
    """Spec files, each once, in order. Hidden folders are left out, links to folders are not followed.

    Raises:
        SpecError: A path leads nowhere, or there is no pipeline at all.
    """
    given = list(paths)
    found = {file.absolute(): file for path in given for file in _below(path)}
    if not found:
        raise SpecError(f"{', '.join(map(str, given))}: no {NAME} there", hint="`embedmill init` writes one")
    return list(found.values())


def _below(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        if not path.exists():
            raise SpecError(f"{path}: no such file or folder")
        yield path
        return
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        if NAME in files:
            yield path.__class__(folder, NAME)
