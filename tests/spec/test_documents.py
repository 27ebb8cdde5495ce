"""Persisted documents keep their bytes and shapes for ever: releases of years ago must open."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.spec.examples import EXAMPLES, GOLDEN, SHAPES, manifest, shapes, terminal

from embedmill.errors import StoreError
from embedmill.spec.document import Document, canonical_json
from embedmill.spec.documents import Manifest, Terminal
from embedmill.spec.fleet_reports import ImageProof

CHANGED = (
    "a persisted document changed: what older versions wrote must stay readable. "
    "Bump the version in its SCHEMA and write a note in docs/decisions/ (not if merely a class got another "
    "name); then `python -m tests.spec.examples` writes the golden files anew"
)


def made(example: Callable[[], Document]) -> Document:
    try:
        return example()
    except (ValidationError, TypeError) as error:
        pytest.fail(f"{CHANGED}\n{error}")


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_document_has_exactly_the_bytes_of_its_golden_file(name: str) -> None:
    golden = (GOLDEN / f"{name}.json").read_text()
    assert made(EXAMPLES[name]).to_bytes().decode() == golden, CHANGED


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_golden_file_reads_as_the_document_that_it_was_written_from(name: str) -> None:
    document = made(EXAMPLES[name])
    golden = (GOLDEN / f"{name}.json").read_bytes()
    try:
        read = type(document).from_bytes(golden, name)
    except StoreError as error:
        pytest.fail(f"{CHANGED}\n{error}")
    assert read == document
    assert read.to_bytes() == golden


@pytest.mark.parametrize("name", sorted(json.loads(SHAPES.read_text())))
def test_the_fields_and_types_of_a_document_are_those_of_the_golden_shapes(name: str) -> None:
    assert shapes().get(name) == json.loads(SHAPES.read_text())[name], CHANGED


def test_every_document_has_a_golden_shape_and_every_persisted_one_an_example() -> None:
    assert set(shapes()) == set(json.loads(SHAPES.read_text())), CHANGED
    modules = ("calibration", "deployed", "documents", "environment", "fleet_baselines", "parity")
    kept = {f"embedmill.spec.{module}" for module in modules}
    persisted = {kind.SCHEMA for kind in Document.__subclasses__() if kind.__module__ in kept}
    assert {example().SCHEMA for example in EXAMPLES.values()} == persisted | {ImageProof.SCHEMA}


def test_a_manifest_says_its_own_digest() -> None:
    sealed = manifest()
    assert sealed.sealed() == sealed
    edited = sealed.model_copy(update={"created": "2026-02-01T00:00:00Z"})
    assert edited.sealed().digest != sealed.digest


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "log/00000001.json: not a terminal/1 document"),
        (b"\xff\xfe", "not a terminal/1 document"),
        (b"[]", "not a terminal/1 document"),
        (b"{}", "not a terminal/1 document"),
        (b'{"schema": "terminal/2"}', "found schema terminal/2, expected terminal/1"),
        (b'{"schema": "terminal/1"}', "not a valid terminal/1: run: Field required"),
        (terminal().to_bytes().replace(b'"run"', b'"ran"'), "run: Field required"),
        (terminal().to_bytes().replace(b'"publish"', b'"lost"'), "outcome: Input should be 'publish' or"),
        (terminal().to_bytes().replace(b"{", b'{"more": 1,'), "more: Extra inputs are not permitted"),
    ],
)
def test_what_is_no_such_document_is_refused_with_its_key(data: bytes, said: str) -> None:
    with pytest.raises(StoreError) as caught:
        Terminal.from_bytes(data, "log/00000001.json")
    assert "log/00000001.json: " in caught.value.message
    assert said in caught.value.message


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none() | st.booleans()))
def test_canonical_json_depends_on_the_values_alone(values: dict[str, object]) -> None:
    backwards = dict(reversed(list(values.items())))
    assert canonical_json(values) == canonical_json(backwards)
    assert json.loads(canonical_json(values)) == values


def test_equal_documents_have_equal_bytes_whatever_the_order_they_were_filled_in() -> None:
    written = manifest()
    reordered = dict(reversed(list(written.model_dump().items())))
    assert Manifest.model_validate(reordered).to_bytes() == written.to_bytes()
