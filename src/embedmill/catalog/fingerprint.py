"""Fingerprints of what an encoder sees, and digests of item ids.

Both are BLAKE2b with 16-byte output over canonical bytes that start with a domain and a version.
The encoding, its test vectors and the rejected options: docs/decisions/0001-fingerprints.md.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from embedmill.hashing import Messages, digests_of, fixed_width, messages_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from embedmill.types import CanonicalColumn, Digests, InputKind

FINGERPRINT_DOMAIN = b"embedmill/fingerprint/1\n"
ID_DOMAIN = b"embedmill/id/1\n"
KIND_TAGS: Mapping[InputKind, bytes] = {
    "text": b"T",
    "image": b"I",
    "images": b"M",
    "category": b"C",
    "list": b"L",
    "set": b"S",
    "number": b"N",
    "boolean": b"B",
    "string": b"R",
    "bytes": b"Y",
}


def fingerprints(columns: Sequence[CanonicalColumn]) -> Digests:
    """Digest of all inputs of each row: S16[N]; the order of `columns` does not matter.

    Raises:
        ValueError: There are no columns, two of one name, or columns of different lengths.
    """
    return digests_of(*fingerprint_messages(columns))


def fingerprint_messages(columns: Sequence[CanonicalColumn]) -> Messages:
    """The canonical bytes of each row, whose digests are fingerprints.

    Raises:
        ValueError: There are no columns, two of one name, or columns of different lengths.
    """
    ordered = sorted(columns, key=lambda column: column.name)
    if not ordered or len({column.name for column in ordered}) < len(ordered):
        raise ValueError("fingerprints need at least one input, and each name once")
    if len({len(column.values) for column in ordered}) > 1:
        raise ValueError("inputs of different lengths")
    heads = [KIND_TAGS[column.kind] + _u32(name := column.name.encode()) + name for column in ordered]
    parts: list[pa.Array | pa.Scalar] = []
    for head, column in zip(heads, ordered, strict=True):
        values = messages_of(column.values)
        parts += [pa.scalar(head, pa.large_binary()), _lengths(values), values]
    return Messages(_together(parts[1:]), FINGERPRINT_DOMAIN + len(ordered).to_bytes(4, "big") + heads[0])


def id_digests(ids: pa.Array) -> Digests:
    """Digest of each id: S16[N]; see `id_messages`."""
    return digests_of(*id_messages(ids))


def id_messages(ids: pa.Array) -> Messages:
    """The canonical bytes of each id, whose digests name it: ids of equal value and family have equal ones.

    A family is one of: integers of any width, floats, decimals, strings, binaries, booleans, dates, times,
    timestamps with a zone, timestamps without.

    Raises:
        ValueError: An id is null, or the type is not a scalar one.
    """
    if ids.null_count:
        raise ValueError(f"{ids.null_count} ids are null")
    for is_family, tag, canonical in _FAMILIES:
        if is_family(ids.type):
            return Messages(canonical(ids), ID_DOMAIN + tag)
    raise ValueError(f"{ids.type} is not a scalar type for ids")


def is_id_type(kind: pa.DataType) -> bool:
    """Whether `id_digests` takes ids of this type."""
    return any(is_family(kind) for is_family, _, _ in _FAMILIES)


def id_family(kind: pa.DataType) -> str:
    """The name of the type's family, for comparison alone: only ids of one family are ever the same.

    Raises:
        ValueError: It is no type of ids.
    """
    for is_family, tag, _ in _FAMILIES:
        if is_family(kind):
            return tag.decode()
    raise ValueError(f"{kind} is not a scalar type for ids")


def _together(parts: Sequence[pa.Array | pa.Scalar]) -> pa.LargeBinaryArray:
    """The parts of each row, one after another."""
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary()))


def _lengths(values: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    """The length of each value, as eight big-endian bytes."""
    return fixed_width(pc.binary_length(values).to_numpy(zero_copy_only=False).astype(">u8"))


def _u32(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big")


def _raw(ids: pa.Array) -> pa.LargeBinaryArray:
    return messages_of(ids)


def _text(ids: pa.Array) -> pa.LargeBinaryArray:
    """Decimal digits of integers, `true` or `false` of booleans."""
    return _raw(ids.cast(pa.string()))


def _float(ids: pa.Array) -> pa.LargeBinaryArray:
    """Big-endian float64; -0.0 is 0.0, and all NaNs are one."""
    values = ids.cast(pa.float64()).to_numpy(zero_copy_only=False) + 0.0
    return fixed_width(np.where(np.isnan(values), np.nan, values).astype(">f8"))


def _decimal(ids: pa.Array) -> pa.LargeBinaryArray:
    """Plain digits without trailing zeros of the fraction, so that the scale does not matter."""
    return messages_of([_plain_digits(value).encode() for value in ids.to_pylist()])


def _plain_digits(value: Decimal) -> str:
    digits = format(value, "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _date(ids: pa.Array) -> pa.LargeBinaryArray:
    """Days since 1970-01-01, in digits."""
    return _text(ids.cast(pa.date32()).cast(pa.int32()))


def _time(ids: pa.Array) -> pa.LargeBinaryArray:
    """Nanoseconds since midnight, in digits."""
    return _text(ids.cast(pa.time64("ns")).cast(pa.int64()))


def _timestamp(ids: pa.Array) -> pa.LargeBinaryArray:
    """Seconds since 1970-01-01 (UTC where there is a zone) as i64, nanoseconds as u32; big-endian."""
    unit = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[ids.type.unit]
    seconds, fraction = np.divmod(ids.cast(pa.int64()).to_numpy(zero_copy_only=False), unit)
    both = np.empty(len(seconds), dtype=[("seconds", ">i8"), ("nanoseconds", ">u4")])
    both["seconds"], both["nanoseconds"] = seconds, fraction * (10**9 // unit)
    return fixed_width(both)


def _is_string(kind: pa.DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    plain = pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind)
    return bool(plain or pt.is_fixed_size_binary(kind))


_FAMILIES: tuple[
    tuple[Callable[[pa.DataType], bool], bytes, Callable[[pa.Array], pa.LargeBinaryArray]], ...
] = (
    (_is_string, b"s", _raw),
    (pt.is_integer, b"i", _text),
    (_is_binary, b"y", _raw),
    (pt.is_boolean, b"b", _text),
    (pt.is_floating, b"f", _float),
    (pt.is_decimal, b"d", _decimal),
    (pt.is_date, b"D", _date),
    (pt.is_time, b"t", _time),
    (lambda kind: pt.is_timestamp(kind) and kind.tz is not None, b"z", _timestamp),
    (pt.is_timestamp, b"n", _timestamp),
)
