"""What model repositories of all servers share: where versions lie, and how files come into them."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.errors import ReleaseIncompatible, SpecError

if TYPE_CHECKING:
    from embedmill.release.reader import Release


def number_of(release: Release, number: int | None) -> int:
    """The version that the release has at model servers.

    Raises:
        ReleaseIncompatible: It has none: it lies outside of its store.
    """
    found = number if number is not None else release.number
    if found is None:
        raise ReleaseIncompatible(
            f"release {release.name}: its number is not known here, and versions of models are numbers",
            hint="give its pipeline.yaml, its folder in the store, or --number",
        )
    return found


@contextmanager
def new_version(folder: Path) -> Iterator[Path]:
    """A folder that becomes `folder` at the end, whole or not at all; nobody loads half a model.

    Raises:
        SpecError: There is something in its place.
    """
    if folder.exists():
        raise SpecError(f"{folder}: is there already, and holds another release", hint="choose another --to")
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part")
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def place(source: Path, files: list[str], target: Path) -> None:
    """Copy files, by their paths below `source`: links would let whoever edits one change the release."""
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def replace_text(file: Path, text: str) -> None:
    """Write a file in one step: a server that polls never reads half of it."""
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}.part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
