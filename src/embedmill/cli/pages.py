"""The page that `search --html` writes: self-contained, no scripts, pictures as data URIs."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING, Any

from embedmill.cli.output import image_kind, shown
from embedmill.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.types import Hit

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
body { color: #1a1a1a }
h1 { font-size: 1.3rem; overflow-wrap: anywhere } .of { color: #666 }
ol { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1rem }
ol { list-style: none; padding: 0 }
li { border: 1px solid #ddd; border-radius: .5rem; padding: .8rem; overflow-wrap: anywhere }
img { display: block; max-width: 100%; height: 8rem; object-fit: contain; margin: 0 auto .6rem }
dl { display: grid; grid-template-columns: auto 1fr; gap: 0 .6rem; margin: .4rem 0 0; font-size: .87em }
dt { color: #666 } dd { margin: 0 } .score { float: right; color: #666; font-variant-numeric: tabular-nums }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def hits_page(
    query: str, release: str, number: int | None, hits: Sequence[Hit], thumbnails: Sequence[bytes | None] = ()
) -> bytes:
    """The page as UTF-8; text of the catalog is escaped, and only images by their bytes become pictures.

    `thumbnails`: one for each hit, or none at all; shown of hits without a picture among their columns.
    """
    head = (
        "<meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escape(query)}</title><style>{STYLE}</style>"
    )
    of = f"release {release}" + (f" (number {number})" if number is not None else "")
    small = thumbnails or [None] * len(hits)
    cards = "".join(_card(hit, picture) for hit, picture in zip(hits, small, strict=True))
    found = f"{counted(len(hits), 'hit')} of {escape(of)}"
    body = f"<h1>{escape(query)}</h1><p class='of'>{found}</p><ol>{cards}</ol>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{body}</body></html>\n".encode()


def _card(hit: Hit, thumbnail: bytes | None) -> str:
    pictures = "".join(_picture(name, value) for name, value in hit.fields.items())
    pictures = pictures or _picture("thumbnail", thumbnail)
    rest = {name: value for name, value in hit.fields.items() if not _is_picture(value)}
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(shown(value))}</dd>" for name, value in rest.items())
    return (
        f"<li>{pictures}<span class='score'>{hit.score:.4f}</span>"
        f"<strong>{escape(shown(hit.id))}</strong><dl>{facts}</dl></li>"
    )


def _is_picture(value: Any) -> bool:
    return isinstance(value, bytes) and image_kind(value) is not None


def _picture(name: str, value: Any) -> str:
    if not _is_picture(value):
        return ""
    encoded = base64.b64encode(value).decode()
    return f"<img alt='{escape(name)}' src='data:image/{image_kind(value)};base64,{encoded}'>"
