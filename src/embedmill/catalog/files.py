"""Finds the files of a catalog: one file, a folder or a glob, local or in the store."""

from __future__ import annotations

import difflib
import fnmatch
import glob
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from embedmill.catalog.base import SourceFile, reading
from embedmill.errors import CatalogError, CatalogUnavailable, ObjectMissing, SpecError
from embedmill.store import fetch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embedmill.spec import CatalogSpec
    from embedmill.store import Store

IN_STORE = "store:"
FORMATS = {
    "parquet": (".parquet", ".pq"),
    "csv": (".csv", ".tsv", ".csv.gz", ".tsv.gz"),
    "jsonl": (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"),
    "arrow": (".arrow", ".arrows", ".feather", ".ipc"),
}


@dataclass(frozen=True)
class LocatedFile:
    """A source file and where its bytes lie on this machine."""

    file: SourceFile
    path: Path
    mtime_ns: int

    def check_unchanged(self) -> None:
        """Refuse a file that was replaced or written to since it was found.

        Raises:
            CatalogUnavailable: It was.
        """
        with reading(self.file.name, "a file"):
            stat = self.path.stat()
        if (stat.st_size, stat.st_mtime_ns) != (self.file.size_bytes, self.mtime_ns):
            raise CatalogUnavailable(
                f"{self.file.name}: changed while it was read", hint="run again once it is complete"
            )


@dataclass(frozen=True)
class Located:
    """The files of a catalog, by name, and their one format."""

    files: tuple[LocatedFile, ...]
    format: str


def locate(spec: CatalogSpec, root: Path, store: Store | None) -> Located:
    """Find the files that `spec.source` means; relative ones are below `root`.

    A folder means the files of a known format directly in it, hidden ones (`.x`, `_x`) left out.

    Raises:
        CatalogError: There are none, or files of several formats.
    """
    if spec.source.startswith(IN_STORE):
        names = _names_in_store(spec, opened(store))
        chosen, format_ = _of_one_format(names, spec)
        return Located(tuple(_stored(opened(store), name) for name in chosen), format_)
    names = _local_names(spec, root)
    chosen, format_ = _of_one_format(names, spec)
    return Located(tuple(local_file(name, root) for name in chosen), format_)


def opened(store: Store | None) -> Store:
    """The store, where the spec needs one.

    Raises:
        SpecError: There is none.
    """
    if store is None:
        raise SpecError(
            f"catalog: `{IN_STORE}` needs a store, and there is none here", hint="give a local path"
        )
    return store


def local_file(name: str, root: Path) -> LocatedFile:
    """The file `name`, which is relative to `root` or absolute."""
    path = root / name
    with reading(name, "a file"):
        stat = path.stat()
    return LocatedFile(SourceFile(name, stat.st_size, str(stat.st_mtime_ns)), path, stat.st_mtime_ns)


def _stored(store: Store, key: str) -> LocatedFile:
    info, path = store.head(key), fetch(store, key)
    return LocatedFile(SourceFile(IN_STORE + key, info.size_bytes, info.etag), path, path.stat().st_mtime_ns)


def _local_names(spec: CatalogSpec, root: Path) -> list[str]:
    source = spec.source
    path = root / source
    with reading(source, "a file"):
        if path.is_file():
            return [str(Path(source))]
        if path.is_dir():
            return [str(Path(source, p.name)) for p in path.iterdir() if p.is_file() and _shown(p.name)]
    if glob.has_magic(source):
        found = (str(Path(name)) for name in glob.glob(source, root_dir=root, recursive=True))  # noqa: PTH207 - takes absolute patterns too
        matches = [name for name in found if (root / name).is_file()]
        if matches:
            return matches
        raise CatalogError(f"catalog.source {source!r} matches no file in {root}", hint="correct the pattern")
    raise CatalogError(f"catalog.source: {path} does not exist", hint=_near(path))


def _names_in_store(spec: CatalogSpec, store: Store) -> list[str]:
    key = spec.source.removeprefix(IN_STORE).strip("/")
    try:
        return [store.head(key).key]
    except ObjectMissing:
        pass
    if glob.has_magic(key):
        matches = [info.key for info in store.list(fixed_part(key)) if matches_glob(info.key, key)]
    else:
        below = (info.key for info in store.list(key))
        matches = [
            k for k in below if PurePosixPath(k).parent == PurePosixPath(key) and _shown(k.rsplit("/")[-1])
        ]
    if not matches:
        raise CatalogError(
            f"catalog.source {spec.source!r} matches no object in {store.url}", hint="correct it"
        )
    return matches


def _of_one_format(names: Iterable[str], spec: CatalogSpec) -> tuple[list[str], str]:
    """The names, sorted, that are of the source's one format; and the format."""
    found = {name: _format(name) for name in sorted(names)}
    single = len(found) == 1 or glob.has_magic(spec.source)
    if spec.format:
        chosen = [name for name, format_ in found.items() if single or format_ == spec.format]
        if chosen:
            return chosen, spec.format
    kinds = Counter(format_ for format_ in found.values() if format_)
    if not kinds or spec.format:
        wanted = (
            FORMATS[spec.format] if spec.format else [ending for all_ in FORMATS.values() for ending in all_]
        )
        raise CatalogError(
            f"catalog.source {spec.source!r}: no file of a known format; known: {', '.join(wanted)}",
            hint="set catalog.format for other names, or a glob such as `items/**/*.parquet` for sub-folders",
        )
    if len(kinds) > 1:
        examples = " and ".join(next(n for n, f in found.items() if f == kind) for kind in sorted(kinds))
        raise CatalogError(
            f"catalog.source {spec.source!r} has files of several formats: {examples}",
            hint="set catalog.format, or write a glob such as `items/*.parquet`",
        )
    format_ = next(iter(kinds))
    return [name for name, kind in found.items() if kind == format_], format_


def _format(name: str) -> str | None:
    lower = name.lower()
    return next((format_ for format_, endings in FORMATS.items() if lower.endswith(endings)), None)


def _shown(name: str) -> bool:
    return not name.startswith((".", "_"))


def _near(path: Path) -> str:
    """A hint with the most similar name in the nearest folder that exists."""
    folder = next((parent for parent in path.parents if parent.is_dir()), path.parent)
    wanted = path.relative_to(folder).parts[0]
    near = difflib.get_close_matches(wanted, [child.name for child in folder.iterdir()], n=1)
    return (
        f"did you mean {folder / near[0]}?"
        if near
        else "correct the path; it is relative to the spec's folder"
    )


def fixed_part(pattern: str) -> str:
    """The folder of a glob, as far as it has no wildcard."""
    parts = PurePosixPath(pattern).parts[:-1]
    cut = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return str(PurePosixPath(*parts[:cut])) if cut else ""


def matches_glob(key: str, pattern: str) -> bool:
    """As the shell's glob: `*` stays in its folder, `**` does not, and neither finds hidden names."""
    return _matches(key.split("/"), pattern.split("/"))


def _matches(parts: list[str], pattern: list[str]) -> bool:
    if not pattern or not parts:
        return not parts and all(wanted == "**" for wanted in pattern)
    wanted, shown = pattern[0], pattern[0].startswith(".") or not parts[0].startswith(".")
    if wanted == "**":
        return _matches(parts, pattern[1:]) or (shown and _matches(parts[1:], pattern))
    return shown and fnmatch.fnmatchcase(parts[0], wanted) and _matches(parts[1:], pattern[1:])
