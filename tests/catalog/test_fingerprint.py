"""Fingerprints and id digests: stable, typed, and never shared by different inputs."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedmill.catalog import fingerprints, id_digests
from embedmill.catalog.fingerprint import KIND_TAGS
from embedmill.digest import digest_list
from embedmill.types import CanonicalColumn, InputKind

NOTE = (Path(__file__).parents[2] / "docs/decisions/0001-fingerprints.md").read_text()
KINDS_NOTE = (Path(__file__).parents[2] / "docs/decisions/0015-inputs-of-every-kind.md").read_text()
KIND_VECTORS = re.findall(r"^\| `(.+)` \| `([0-9a-f]{32})` \|$", KINDS_NOTE, re.MULTILINE)
VECTORS = re.findall(r"^\| `(.+)` \| `([0-9a-f]{32})` \|$", NOTE, re.MULTILINE)
ID_VECTORS = re.findall(r"^\| (\w+(?:\(.+\))?) \| `(.+)` \| `([0-9a-f]{32})` \|$", NOTE, re.MULTILINE)
ID_TYPES = {
    "decimal128(10, 3)": pa.decimal128(10, 3),
    "time64(us)": pa.time64("us"),
    "timestamp(ms)": pa.timestamp("ms"),
    "timestamp(us, UTC)": pa.timestamp("us", "UTC"),
}

ROW = st.dictionaries(
    st.text("ab_", min_size=1, max_size=3),
    st.tuples(st.sampled_from(["text", "image"]), st.binary(max_size=5)),
    min_size=1,
    max_size=3,
)


def fingerprint(row: dict[str, tuple[str, bytes]]) -> str:
    columns = [CanonicalColumn(n, "text" if k == "text" else "image", [v]) for n, (k, v) in row.items()]
    return digest_list(fingerprints(columns))[0].hex()


def id_digest(value: object, kind: pa.DataType) -> str:
    return digest_list(id_digests(pa.array([value], kind)))[0].hex()


def parsed_inputs(text: str) -> dict[str, tuple[str, bytes]]:
    found = re.findall(r'(text|image) (\w+)(?: "([^"]*)"| ([0-9a-f]+))?', text)
    return {n: (k, said.encode() if k == "text" else bytes.fromhex(raw)) for k, n, said, raw in found}


@pytest.mark.parametrize(("inputs", "expected"), VECTORS)
def test_the_notes_vectors_are_what_is_computed(inputs: str, expected: str) -> None:
    assert fingerprint(parsed_inputs(inputs)) == expected


@pytest.mark.parametrize(("inputs", "expected"), KIND_VECTORS)
def test_the_vectors_of_the_later_kinds_are_what_is_computed(inputs: str, expected: str) -> None:
    columns = []
    for each in inputs.split(", "):
        kind, name, *value = each.split(" ")
        columns.append(CanonicalColumn(name, cast("InputKind", kind), [bytes.fromhex("".join(value))]))
    assert digest_list(fingerprints(columns))[0].hex() == expected


def test_every_kind_has_its_byte_in_a_note_and_a_vector() -> None:
    """Those of texts and single images are in the first."""
    told = dict(re.findall(r"^\| ([\w ,]+) \| `([A-Z])` \|", KINDS_NOTE, re.MULTILINE))
    assert sorted(told.values()) == sorted(
        tag.decode() for tag in KIND_TAGS.values() if tag not in {b"T", b"I"}
    )
    named = {each.split(" ")[0] for inputs, _ in KIND_VECTORS for each in inputs.split(", ")}
    assert named == set(KIND_TAGS) - {"text", "image"}


@pytest.mark.parametrize(("kind", "text", "expected"), ID_VECTORS)
def test_the_notes_id_vectors_are_what_is_computed(kind: str, text: str, expected: str) -> None:
    as_type = ID_TYPES.get(kind) or pa.type_for_alias(kind)
    parsers: dict[str, Callable[[str], object]] = {
        "binary": bytes.fromhex,
        "timestamp(us, UTC)": datetime.datetime.fromisoformat,
        "decimal128(10, 3)": Decimal,
        "time64(us)": datetime.time.fromisoformat,
    }
    value = parsers[kind](text) if kind in parsers else pa.scalar(text).cast(as_type).as_py()
    assert id_digest(value, as_type) == expected


def test_the_note_has_its_vectors() -> None:
    assert len(VECTORS) == 7
    assert len(ID_VECTORS) == 14


@given(ROW)
def test_a_fingerprint_is_what_the_note_says(row: dict[str, tuple[str, bytes]]) -> None:
    message = b"embedmill/fingerprint/1\n" + len(row).to_bytes(4, "big")
    for name, (kind, value) in sorted(row.items()):
        message += {"text": b"T", "image": b"I"}[kind] + len(name).to_bytes(4, "big") + name.encode()
        message += len(value).to_bytes(8, "big") + value
    assert fingerprint(row) == blake2b(message, digest_size=16).hexdigest()


@given(ROW, ROW)
def test_only_equal_inputs_share_a_fingerprint(
    one: dict[str, tuple[str, bytes]], other: dict[str, tuple[str, bytes]]
) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (one == other)


def test_rows_are_independent_and_columns_have_no_order() -> None:
    a = CanonicalColumn("a", "text", [b"1", b"2", b"1"])
    b = CanonicalColumn("b", "image", [b"x", b"y", b"x"])
    first, second, third = digest_list(fingerprints([a, b]))
    assert first == third != second
    assert digest_list(fingerprints([b, a])) == [first, second, third]


def test_no_rows_have_no_fingerprints() -> None:
    assert len(fingerprints([CanonicalColumn("a", "text", [])])) == 0


@pytest.mark.parametrize(
    "columns",
    [
        [],
        [CanonicalColumn("a", "text", [b""]), CanonicalColumn("a", "image", [b""])],
        [CanonicalColumn("a", "text", [b""]), CanonicalColumn("b", "text", [])],
    ],
)
def test_inputs_that_do_not_make_rows_are_refused(columns: list[CanonicalColumn]) -> None:
    with pytest.raises(ValueError):
        fingerprints(columns)


SAME = [
    ([1, -5], pa.int8(), pa.int64()),
    ([1, 200], pa.uint8(), pa.uint64()),
    (["x", ""], pa.string(), pa.large_string()),
    (["x", ""], pa.string(), pa.string_view()),
    ([b"ab"], pa.binary(2), pa.large_binary()),
    ([1.5, -0.25], pa.float32(), pa.float64()),
    ([Decimal("1.50"), Decimal(-3)], pa.decimal128(5, 2), pa.decimal256(50, 7)),
    ([datetime.date(1969, 12, 31)], pa.date32(), pa.date64()),
    ([datetime.time(1, 2, 3)], pa.time32("s"), pa.time64("ns")),
    ([datetime.datetime(1969, 12, 31, 23, 59, 59)], pa.timestamp("s"), pa.timestamp("ns")),
]


@pytest.mark.parametrize(("values", "one", "other"), SAME, ids=lambda value: str(value))
def test_an_id_keeps_its_digest_when_its_type_widens(
    values: list[object], one: pa.DataType, other: pa.DataType
) -> None:
    assert digest_list(id_digests(pa.array(values, one))) == digest_list(id_digests(pa.array(values, other)))


def test_ids_of_other_families_are_other_items() -> None:
    noon = datetime.datetime(2026, 1, 31, 12)
    ids = [
        (1, pa.int64()),
        ("1", pa.string()),
        (b"1", pa.binary()),
        (1.0, pa.float64()),
        (Decimal(1), pa.decimal128(3, 0)),
        (True, pa.bool_()),
        ("true", pa.string()),
        (datetime.date(1970, 1, 2), pa.date32()),
        (noon, pa.timestamp("us")),
        (noon, pa.timestamp("us", "UTC")),
    ]
    assert len({id_digest(value, kind) for value, kind in ids}) == len(ids)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True))
def test_different_integers_have_different_digests(values: list[int]) -> None:
    assert len(set(digest_list(id_digests(pa.array(values, pa.int64()))))) == len(values)


@given(st.lists(st.integers(-(2**62), 2**62), unique=True), st.sampled_from(["s", "ms", "us", "ns"]))
def test_different_timestamps_have_different_digests(values: list[int], unit: str) -> None:
    times = pa.array(values, pa.int64()).cast(pa.timestamp(unit))
    assert len(set(digest_list(id_digests(times)))) == len(values)


@given(st.lists(st.decimals(-(10**20), 10**20, places=4), unique=True))
def test_different_decimals_have_different_digests(values: list[Decimal]) -> None:
    assert len(set(digest_list(id_digests(pa.array(values, pa.decimal128(38, 4)))))) == len(set(values))


def test_a_slice_has_the_digests_of_its_rows() -> None:
    ids = pa.array([f"item-{i}" for i in range(10)])
    assert digest_list(id_digests(ids[3:7])) == digest_list(id_digests(ids))[3:7]


def test_null_ids_and_nested_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="null"):
        id_digests(pa.array([1, None]))
    with pytest.raises(ValueError, match="scalar"):
        id_digests(pa.array([[1]]))
