"""docs/clients.md, followed with all the clients that it names."""

from __future__ import annotations

from tests.docs.conftest import minilm, reader  # noqa: F401 - the fixtures
from tests.docs.pages import Reader, examples, with_server


def test_the_page_on_clients_can_be_followed(reader: Reader) -> None:  # noqa: F811
    with with_server(reader) as following:
        for block in examples("clients.md"):
            following.follow(block)
