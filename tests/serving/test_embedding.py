"""What is common to all protocols: which rows are refused before they are embedded."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa

from embedmill.model.inputs import empty_rows
from embedmill.spec.inputs import TextInput


def test_every_character_is_blank_for_python_where_it_is_for_a_release() -> None:
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    rows = pa.record_batch({"title": pa.array(characters)})
    blank = empty_rows(TextInput(template="{title}", max_length=8), rows)
    assert [each for each, empty in zip(characters, blank, strict=True) if empty != each.isspace()] == []
    assert np.count_nonzero(blank) > 20
