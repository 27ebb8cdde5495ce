"""Files whose name says text and whose first bytes say something else: gzip, ZIP, Parquet, Arrow."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from embedmill.catalog.base import reading
from embedmill.catalog.files import FORMATS
from embedmill.errors import CatalogError

if TYPE_CHECKING:
    from typing import BinaryIO

GZIP = b"\x1f\x8b\x08"  # RFC 1952, 2.3.1, with its only method
ZIP = b"PK\x03\x04"  # APPNOTE.TXT, 4.3.7
ARROW = b"ARROW1\0\0"  # arrow.apache.org/docs/format/Columnar.html#ipc-file-format
PARQUET = b"PAR1"  # parquet.apache.org/docs/file-format: at both ends


def refuse_disguised(name: str, path: Path) -> None:
    """Refuse a CSV or JSON Lines file that is none, with the name that it should have.

    Raises:
        CatalogError: Its bytes are those of another format, or it cannot be read.
    """
    with reading(name, "a file"), path.open("rb") as stream:
        head = stream.read(len(ARROW))
        ends_as_parquet = head.startswith(PARQUET) and _tail(stream) == PARQUET
    if head.startswith(GZIP) and not path.name.lower().endswith(".gz"):
        raise _is(name, "gzipped", f"name it {PurePosixPath(name).name}.gz")
    if head.startswith(ZIP):
        raise _is(name, "a ZIP archive or a spreadsheet", "unpack it, or export it as CSV: neither is read")
    if ends_as_parquet:
        raise _is(name, "Parquet", f"name it {_stem(name)}.parquet; catalog.format, if it is set, is parquet")
    if head == ARROW:
        raise _is(name, "Arrow", f"name it {_stem(name)}.arrow; catalog.format, if it is set, is arrow")


def _tail(stream: BinaryIO) -> bytes:
    stream.seek(-len(PARQUET), 2)
    return stream.read()


def _is(name: str, what: str, hint: str) -> CatalogError:
    return CatalogError(f"{name}: by its bytes it is {what}, not the text that it is read as", hint=hint)


def _stem(name: str) -> str:
    """The last part of a name, without the ending that its format has."""
    last = PurePosixPath(name).name
    endings = sorted((each for all_ in FORMATS.values() for each in all_), key=len, reverse=True)
    ending = next((each for each in endings if last.lower().endswith(each)), "")
    return last[: len(last) - len(ending)]
