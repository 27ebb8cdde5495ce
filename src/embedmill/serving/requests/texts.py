"""Strings of tensors become what a catalog would have: texts, files, lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic_core import from_json

from embedmill.errors import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Sequence


def field_values(field: str, values: Sequence[Any], kind: pa.DataType | None) -> list[Any]:
    """The values of a field of this type: files stay bytes, lists are read as JSON, all else is text.

    Raises:
        RequestRefused: A text is not UTF-8, or a list is not JSON.
    """
    if kind is not None and pa.types.is_binary(kind):
        return list(values)
    texts = [text_of(field, value) if isinstance(value, bytes) else value for value in values]
    if kind is not None and pa.types.is_list(kind):
        return [_list(field, text) if isinstance(text, str) else text for text in texts]
    return texts


def text_of(field: str, value: bytes) -> str:
    """Bytes as text.

    Raises:
        RequestRefused: They are not UTF-8.
    """
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise RequestRefused(f"{field}: a text is not UTF-8: {error.reason}") from None


def _list(field: str, text: str) -> Any:
    """An empty text is no list, as in a catalog."""
    if not text:
        return None
    try:
        return from_json(text)
    except ValueError:
        raise RequestRefused(
            f"{field}: a list is not JSON", hint='send it as text: ["red", "blue"]'
        ) from None
