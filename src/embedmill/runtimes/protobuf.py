"""Walks protobuf's wire format without a protobuf library: https://protobuf.dev/programming-guides/encoding/

Only what a caller asks for is looked at; everything else, such as weights, is skipped unread.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
LONGEST_VARINT = 10
LARGEST_FIELD = 2**29 - 1
MOST_FIELDS = 1_000_000
"""Of one message: more are refused, so that a small file of many tiny fields cannot fill the memory."""

Buffer: TypeAlias = bytes | mmap.mmap


class Field(NamedTuple):
    """A field of a message: a number where `wire` is VARINT, else where its bytes start and end."""

    number: int
    wire: int
    start: int
    end: int
    value: int = 0


def fields(data: Buffer, start: int, end: int) -> Iterator[Field]:
    """The fields of the message that lies between two positions, in order.

    Raises:
        ValueError: There is no message, or a damaged one.
    """
    at = start
    while at < end:
        tag, at = varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if not 0 < number <= LARGEST_FIELD:
            raise ValueError(f"no field number before byte {at}: {number}")
        if wire == VARINT:
            value, after = varint(data, at, end)
            yield Field(number, wire, at, after, value)
        else:
            size, at = _size(data, wire, at, end)
            after = at + size
            if after > end:
                raise ValueError(f"a field ends at byte {after}, past its message's end at {end}")
            yield Field(number, wire, at, after)
        at = after


def varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    """The number at a position, and the position after it.

    Raises:
        ValueError: It does not end before `end`, or within ten bytes.
    """
    value = 0
    for index in range(min(LONGEST_VARINT, end - at)):
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError(f"a number at byte {at} does not end")


class Message:
    """A message whose fields are looked up by number; repeated ones in order, as if merged.

    Raises:
        ValueError: At construction: it is damaged, or has more than `MOST_FIELDS` fields.
    """

    def __init__(self, data: Buffer, start: int, end: int) -> None:
        """Find the fields; their contents are left alone."""
        self._data = data
        self._found: dict[int, list[Field]] = {}
        for count, field in enumerate(fields(data, start, end)):
            if count >= MOST_FIELDS:
                raise ValueError(f"more than {MOST_FIELDS:,} fields in one message at byte {start}")
            self._found.setdefault(field.number, []).append(field)

    def messages(self, *numbers: int) -> Iterator[Message]:
        """The submessages with these field numbers."""
        for field in self._length_delimited(*numbers):
            yield Message(self._data, field.start, field.end)

    def texts(self, *numbers: int) -> list[str]:
        """The strings with these field numbers."""
        return [self._data[field.start : field.end].decode() for field in self._length_delimited(*numbers)]

    def text(self, number: int) -> str:
        """The string that counts: of a field that is there twice the last one."""
        return next(reversed(self.texts(number)), "")

    def numbers(self, number: int) -> list[int]:
        """The integers of a repeated field, packed or not."""
        found: list[int] = []
        for field in self._found.get(number, ()):
            if field.wire == VARINT:
                found.append(field.value)
            elif field.wire == LENGTH_DELIMITED:
                found += _packed(self._data, field.start, field.end)
        return found

    def __contains__(self, number: int) -> bool:
        return number in self._found

    def _length_delimited(self, *numbers: int) -> Iterator[Field]:
        found = (field for number in numbers for field in self._found.get(number, ()))
        return (field for field in found if field.wire == LENGTH_DELIMITED)


def _packed(data: Buffer, at: int, end: int) -> list[int]:
    found: list[int] = []
    while at < end:
        value, at = varint(data, at, end)
        found.append(value)
        if len(found) > MOST_FIELDS:
            raise ValueError(f"more than {MOST_FIELDS:,} numbers in one field before byte {at}")
    return found


def _size(data: Buffer, wire: int, at: int, end: int) -> tuple[int, int]:
    if wire == LENGTH_DELIMITED:
        return varint(data, at, end)
    if wire in (FIXED32, FIXED64):
        return (4 if wire == FIXED32 else 8), at
    raise ValueError(f"unknown wire type {wire} before byte {at}")
