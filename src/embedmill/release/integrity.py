"""Opening a release: every byte is checked the first time, and a stamp makes later opens fast.

A stamp holds each file's size and time and the manifest's digest, in this machine's cache. It is trusted
only while all of them are unchanged; damage that keeps size and time is found by `release verify`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from embedmill.errors import ReleaseCorrupt, ReleaseMissing, StoreError
from embedmill.release.layout import CONTENT, GATES, MANIFEST
from embedmill.release.stamps import read_stamp, stamp_file, write_stamp
from embedmill.spec.documents import Content, Fetched, FileEntry, Gates, Manifest
from embedmill.store import checked_key
from embedmill.store.hashing import files_sha256

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    Seen = Mapping[str, Sequence[int]]
    """Size, time of change in nanoseconds, and inode of files by their path in a release."""

NAMED = 8
"""Damaged files that one error names, at most."""
WHAT_NEXT = "put back a copy, or roll back to a release that `embedmill release verify` finds whole"
FETCHED = "FETCHED.json"
"""Beside the manifest of a release that `embedmill fetch` brought."""


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a release's folder, checked against its own digest.

    Raises:
        ReleaseMissing: The folder has none.
        ReleaseCorrupt: Its bytes are not those that were sealed.
    """
    file = folder / MANIFEST
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise no_manifest(str(folder), _where_releases_are(folder)) from None
    except OSError as error:
        raise ReleaseMissing(f"{file}: cannot be read: {error.strerror}") from error
    return parse_manifest(data, str(file))


def no_manifest(where: str, hint: str = "") -> ReleaseMissing:
    """That a folder is no release, or none any more."""
    return ReleaseMissing(
        f"{where}: no published release: it has no {MANIFEST}",
        hint=hint or "put it back from a copy, or take another: `embedmill release ls` shows those there are",
    )


def _where_releases_are(folder: Path) -> str:
    """What to open instead of a folder that never was a release: of a store, or a pipeline's in one."""
    if (folder / CONTENT).exists():
        return ""
    if (folder / "releases").is_dir():
        return f"it is a pipeline's folder: open {folder}/releases/<name>, or its pipeline.yaml: the live one"
    pipeline = next(iter(sorted(folder.glob("*/releases/"))), None)
    if pipeline is not None:
        return f"it is a store: open a release in it, as {pipeline}/<name>, or a pipeline.yaml: its live one"
    return "releases lie in <store>/<pipeline>/releases/<name>; a pipeline.yaml opens its live one"


def parse_manifest(data: bytes, where: str) -> Manifest:
    """A manifest, checked against its own digest; `where` names it in errors.

    Raises:
        ReleaseCorrupt: Its bytes are not those that were sealed.
    """
    try:
        manifest = Manifest.from_bytes(data, where)
    except StoreError as error:
        raise ReleaseCorrupt(error.message, hint=WHAT_NEXT) from None
    if not _is_sealed(manifest, data):
        raise ReleaseCorrupt(f"{where}: its bytes are not those that were sealed", hint=WHAT_NEXT)
    for entry in manifest.files:
        try:
            checked_key(entry.path)
        except StoreError:
            raise ReleaseCorrupt(f"{where}: names {entry.path!r}, which lies outside the release") from None
    return manifest


def read_fetched(folder: Path, manifest: Manifest) -> Fetched | None:
    """Where a folder's release was fetched from; None if it was not.

    Raises:
        ReleaseCorrupt: What says so is damaged, or speaks of another release.
    """
    file = folder / FETCHED
    try:
        found = Fetched.from_bytes(file.read_bytes(), str(file))
    except FileNotFoundError:
        return None
    except StoreError as error:
        raise ReleaseCorrupt(error.message, hint="fetch the release again, into an empty folder") from None
    if found.manifest_digest != manifest.digest:
        raise ReleaseCorrupt(
            f"{file}: speaks of release {found.release}, and the manifest is another's",
            hint="fetch the release again, into an empty folder",
        )
    return found


def _is_sealed(manifest: Manifest, data: bytes) -> bool:
    try:
        return manifest.sealed().to_bytes() == data
    except UnicodeEncodeError:  # half a surrogate pair: nothing that we write
        return False


def read_content(folder: Path) -> Content:
    """The content document of a release or candidate."""
    file = folder / CONTENT
    try:
        return Content.from_bytes(file.read_bytes(), str(file))
    except FileNotFoundError:
        raise ReleaseMissing(f"{folder}: no candidate: it has no {CONTENT}") from None
    except StoreError as error:
        raise ReleaseCorrupt(error.message) from None


def read_gates(folder: Path) -> Gates:
    """The verdicts of a published release."""
    file = folder / GATES
    try:
        return Gates.from_bytes(file.read_bytes(), str(file))
    except (OSError, StoreError) as error:
        raise ReleaseCorrupt(f"{file}: {error}") from None


def content_files(content: Content) -> list[FileEntry]:
    """Every data file of a candidate or release."""
    segments = [entry for segment in content.segments for entry in segment.files]
    return [*content.model, *content.items, *segments, *content.goldens, content.quarantine]


def check_named(folder: Path, content: Content, manifest: Manifest) -> None:
    """Check that the manifest vouches for all that will be read.

    Raises:
        ReleaseCorrupt: CONTENT, or a file that it names, is not in the manifest.
    """
    known = {entry.path: entry.sha256 for entry in manifest.files}
    if CONTENT not in known:
        raise ReleaseCorrupt(f"{folder / MANIFEST}: does not name {CONTENT}")
    for entry in content_files(content):
        if known.get(entry.path) != entry.sha256:
            raise ReleaseCorrupt(f"{folder / MANIFEST}: does not name {entry.path} as {CONTENT} does")


def verify_files(folder: Path, manifest: Manifest, *, thorough: bool = False) -> None:
    """Check every file of the manifest: by its stamp where there is a good one, else by its SHA-256.

    `thorough` ignores the stamp; whoever hashes removes it, until all is found well.

    Raises:
        ReleaseCorrupt: A file is absent, or has other bytes; names it, and the next few.
    """
    stamp = _stamp(folder, manifest)
    if not thorough and stamp is not None and read_stamp(_stamp_file(folder, manifest)) == stamp:
        return
    with contextlib.suppress(OSError):
        _stamp_file(folder, manifest).unlink(missing_ok=True)
    try:
        wrong = _damaged(folder, manifest)
    except OSError as error:
        raise ReleaseCorrupt(f"{error.filename}: cannot be read: {error.strerror}", hint=WHAT_NEXT) from error
    if wrong:
        raise ReleaseCorrupt(_words(folder, wrong), hint=WHAT_NEXT)
    write_stamp(_stamp_file(folder, manifest), stamp)


def note_verified(folder: Path, manifest: Manifest) -> None:
    """Stamp a folder whose files were each checked on their way into it."""
    stamp = _stamp(folder, manifest)
    if stamp is not None:
        write_stamp(_stamp_file(folder, manifest), stamp)


def seen_files(folder: Path, entries: Iterable[FileEntry]) -> Seen:
    """What a stamp says of these files, as they are now."""
    stats = {entry.path: (folder / entry.path).stat() for entry in entries}
    return {path: [stat.st_size, stat.st_mtime_ns, stat.st_ino] for path, stat in stats.items()}


def note_sealed(
    folder: Path, manifest: Manifest, seen: Seen, base: Path | None, carried: Collection[str]
) -> None:
    """Stamp a release that was sealed just now, so that it is not hashed again when it is opened.

    Its files were hashed after they were `seen`; those `carried` have to be the very files that the base's
    stamp vouches for, by another name. Where one is not, there is no stamp, and who opens it hashes all.
    Nothing that is wrong with the base or the cache is an error here: the release is sealed by now.
    """
    vouched = _vouched(base) if base is not None and carried else {}
    if isinstance(vouched, dict) and all(vouched.get(path) == seen[path] for path in carried):
        write_stamp(_stamp_file(folder, manifest), {"manifest": manifest.digest, "files": seen})


def _vouched(folder: Path) -> object:
    """The files that a release's stamp vouches for, if any."""
    try:
        manifest = read_manifest(folder)
    except (ReleaseMissing, ReleaseCorrupt):
        return None
    stamp = read_stamp(_stamp_file(folder, manifest))
    return stamp.get("files") if stamp.get("manifest") == manifest.digest else None


def _damaged(folder: Path, manifest: Manifest) -> dict[str, str]:
    """What is wrong with which files: those that a look tells, else those that hashing tells."""
    wrong = {entry.path: found for entry in manifest.files if (found := _other_size(folder, entry))}
    if wrong:
        return wrong
    digests = files_sha256([folder / entry.path for entry in manifest.files])
    return {
        entry.path: "its bytes are not those that were published"
        for entry, digest in zip(manifest.files, digests, strict=True)
        if digest != entry.sha256
    }


def _other_size(folder: Path, entry: FileEntry) -> str:
    file = folder / entry.path
    if not file.is_file():
        return "is missing"
    found = file.stat().st_size
    return "" if found == entry.size_bytes else f"has {found} bytes, the manifest says {entry.size_bytes}"


def _words(folder: Path, wrong: Mapping[str, str]) -> str:
    (first, found), *others = wrong.items()
    words = f"{folder / first}: {found}"
    if others:
        more = len(others) - (NAMED - 1)
        words += f"; damaged, too: {', '.join(path for path, _ in others[: NAMED - 1])}"
        words += f" and {more} more" if more > 0 else ""
    return words


def _stamp(folder: Path, manifest: Manifest) -> dict[str, object] | None:
    """What a stamp would say now; None where a file is absent."""
    try:
        return {"manifest": manifest.digest, "files": seen_files(folder, manifest.files)}
    except OSError:
        return None


def _stamp_file(folder: Path, manifest: Manifest) -> Path:
    return stamp_file(f"{folder.resolve()}\0{manifest.digest}")
