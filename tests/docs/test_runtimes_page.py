"""docs/runtimes.md has a section for each kind of runtime, with every key of it."""

from __future__ import annotations

from typing import get_args

import pytest
from tests.docs.pages import table
from tests.docs.spec_tables import declared, differences, documented

from embedmill.spec import RUNTIMES, RuntimeSection

PAGE = "runtimes.md"


def kind_of(section: type[RuntimeSection]) -> str:
    (kind,) = get_args(section.model_fields["kind"].annotation)
    return str(kind)


@pytest.mark.parametrize("section", RUNTIMES, ids=kind_of)
def test_the_table_of_a_kind_has_every_key_with_its_type_and_default(section: type[RuntimeSection]) -> None:
    assert differences(documented(table(PAGE, kind_of(section))), declared(section)) == {}
