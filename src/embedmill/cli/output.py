"""Printing: one JSON document, or a table for people. Data goes to stdout, talk to stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from embedmill.cli.failures import ReaderGone, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from embedmill.spec.document import Document

WIDE = 100_000
"""Columns where stdout is no terminal: whoever reads it wants whole values."""

CELL = 200
"""The longest value of a table on a terminal."""


def emit(document: Document) -> None:
    """Print a document as JSON."""
    emit_bytes(document.to_bytes())


def emit_bytes(data: bytes) -> None:
    """Print bytes as they are: JSON is UTF-8, whatever the locale."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def data() -> Console:
    """The console of stdout."""
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise ReaderGone  # Rich itself would end with 1, as an error

    width = None if sys.stdout.isatty() else WIDE
    return Piped(file=sys.stdout, width=width, markup=False, emoji=False, highlight=False)


def talk() -> Console:
    """The console of stderr."""
    from rich.console import Console

    return Console(file=sys.stderr, markup=False, emoji=False, highlight=False)


def table(
    *columns: str, rows: Iterable[Sequence[object]], numbers: Sequence[int] = (), whole: bool = False
) -> Table:
    """A table; the columns whose places are in `numbers` are aligned right. `whole`: no value is cut."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for place, name in enumerate(columns):
        right = place in numbers
        made.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=right)
    most = CELL if sys.stdout.isatty() and not whole else None
    for row in rows:
        made.add_row(*(cell(value, most) for value in row))
    return made


def facts(rows: Iterable[tuple[str, object]]) -> Table:
    """Names and values, without a head."""
    from rich.table import Table

    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(cell(name), cell(value))
    return made


def cell(value: object, most: int | None = None) -> Text:
    """A value or count as text of one line: without control characters, cut after `most` of them."""
    from rich.text import Text

    if isinstance(value, Text):
        return value
    plain = f"{value:,}" if type(value) is int else shown(value)
    text = " " * (len(plain) - len(plain.lstrip(" "))) + one_line(plain)
    return Text(text if most is None or len(text) <= most else text[: most - 1] + "…")


def shown(value: Any) -> str:
    """A catalog's value for people: pictures and other bytes by their kind and size."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case bytes():
            return f"<{image_kind(value) or 'bytes'}, {size(len(value))}>"
    return str(value)


_IMAGES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"BM": "bmp"}


def image_kind(data: bytes) -> str | None:
    """`png`, `jpeg`, `gif`, `webp` or `bmp`, by the first bytes; None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((kind for start, kind in _IMAGES.items() if data.startswith(start)), None)


def size(count: int) -> str:
    """Bytes as people say them."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if count >= factor:
            value = count / factor
            return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
    return f"{count} bytes"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"
