"""Protobuf's text format, as far as servers' configurations need it.

https://protobuf.dev/reference/protobuf/textformat-spec: values are written here, and nowhere else, so that a
name with quotes in it stays a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias


class Word(str):
    """A value without quotes: the name of an enum's value."""

    __slots__ = ()


Value: TypeAlias = "str | int | bool | Mapping[str, Value] | Sequence[Value]"


def text_format(message: Mapping[str, Value]) -> str:
    """A message, a field a line; a sequence is a repeated field."""
    return "".join(f"{line}\n" for line in _lines(message))


def _lines(message: Mapping[str, Value]) -> list[str]:
    lines: list[str] = []
    for name, value in message.items():
        repeated = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        for each in repeated:
            if isinstance(each, Mapping):
                lines += [f"{name} {{", *(f"  {line}" for line in _lines(each)), "}"]
            else:
                lines.append(f"{name}: {_scalar(each)}")
    return lines


def _scalar(value: Value) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case Word() | int():
            return str(value)
        case str():
            return f'"{"".join(map(_escaped, value))}"'
    raise TypeError(f"{value!r} has no text format")


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if ord(character) < 32 or ord(character) == 127:
        return f"\\{ord(character):03o}"
    return character
