"""docs/fleet.md has every key and every state that the code has."""

from __future__ import annotations

from typing import get_args

import pytest
from tests.docs.pages import table, unquoted
from tests.docs.spec_tables import declared, differences, documented

from embedmill.spec.fleet import FleetSpec, Reservation, ServerSpec
from embedmill.spec.fleet_reports import ServerState
from embedmill.spec.section import Section

PAGE = "fleet.md"


@pytest.mark.parametrize(
    ("heading", "section"),
    [("fleet.yaml", FleetSpec), ("Keys of a server", ServerSpec), ("Keys of a reservation", Reservation)],
)
def test_the_tables_have_every_key_with_its_type_and_default(heading: str, section: type[Section]) -> None:
    assert differences(documented(table(PAGE, heading)), declared(section)) == {}


def test_every_state_of_a_server_is_explained() -> None:
    assert [unquoted(row[0]) for row in table(PAGE, "fleet probe")] == list(get_args(ServerState))
