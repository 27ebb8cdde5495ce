"""Whatever a name has in it, it stays a name in protobuf's text format."""

from __future__ import annotations

from google.protobuf import text_format as google  # type: ignore[import-untyped]
from google.protobuf.struct_pb2 import Struct  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from embedmill.deploy.pbtxt import Value, Word, text_format

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(TEXTS, TEXTS, max_size=3))
def test_the_library_of_protobuf_reads_what_was_written(values: dict[str, str]) -> None:
    entries: list[Value] = [{"key": key, "value": {"string_value": value}} for key, value in values.items()]
    read = google.Parse(text_format({"fields": entries}), Struct())
    assert dict(read) == values


def test_numbers_truths_words_and_lists_have_their_own_form() -> None:
    message: dict[str, Value] = {
        "a": 1,
        "b": True,
        "c": Word("KIND_CPU"),
        "d": ["x", "y"],
        "e": [{"f": -1}, {"f": 2}],
        "g": {},
    }
    assert text_format(message) == (
        'a: 1\nb: true\nc: KIND_CPU\nd: "x"\nd: "y"\ne {\n  f: -1\n}\ne {\n  f: 2\n}\ng {\n}\n'
    )
