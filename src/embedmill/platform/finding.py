"""The pipelines that are meant: files as they are named, and every pipeline.yaml below a folder."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from embedmill.errors import EmbedmillError, SpecError
from embedmill.spec import load_pipeline_spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

NAME = "pipeline.yaml"


def find_pipelines(paths: Iterable[Path]) -> list[Path]:
    """Spec files, each once, in order. Hidden folders are left out, links to folders are not followed.

    Raises:
        SpecError: A path leads nowhere, there is no pipeline at all.
    """
    given = list(paths)
    found: dict[Path, Path] = {}
    for file in (file for path in given for file in _below(path)):
        found.setdefault(file.parent.resolve() / file.name, file)
    if not found:
        raise SpecError(f"{', '.join(map(str, given))}: no {NAME} there", hint="`embedmill init` writes one")
    return list(found.values())


def clashes(files: Iterable[Path]) -> dict[Path, SpecError]:
    """What is wrong with files that are one pipeline in one store: each would replace the other's items."""
    places: dict[tuple[str, str], list[Path]] = {}
    stores: dict[tuple[str, str], str] = {}
    for file in files:
        try:
            spec = load_pipeline_spec(file)
        except EmbedmillError:
            continue  # said of that pipeline alone, once it is its turn
        place = (_place(spec.store, file.absolute().parent), spec.name)
        places.setdefault(place, []).append(file)
        stores.setdefault(place, spec.store)
    return {
        file: SpecError(
            f"{' and '.join(map(str, same))}: {'both' if len(same) == 2 else 'all'} are pipeline {name!r} "
            f"of the store {stores[store, name]}",
            hint="give one of them another `name`, or another `store`",
        )
        for (store, name), same in places.items()
        if len(same) > 1
        for file in same
    }


def names_apart(named: Sequence[tuple[str, str]]) -> list[str]:
    """What to call pipelines, given their names and files: a name that several have gets its file."""
    count = Counter(name for name, _ in named)
    return [name if count[name] == 1 else f"{name} ({file})" for name, file in named]


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


def _place(store: str, root: Path) -> str:
    """A store as one text, however it is written."""
    parts = urlsplit(store)
    if parts.scheme not in {"", "file"}:
        return store.rstrip("/")
    folder = Path(unquote(store.split("://", 1)[-1])) if parts.scheme else root / store
    return str(folder.resolve())
