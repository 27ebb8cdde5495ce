"""Our own clients, against real servers."""

from __future__ import annotations

import numpy as np
import pytest
from tests.serving_group.goldens import golden
from tests.support.server_process import ServerProcess

from embedmill.client import AsyncClient, Client
from embedmill.errors import ReleaseMismatch, RequestRefused
from embedmill.release.reader import Release


def test_any_number_of_texts_gets_the_vectors_of_the_release(
    server: ServerProcess, published: Release
) -> None:
    rows, vectors = golden(published, "query_text")
    texts = rows.column("query").to_pylist() * 5
    assert len(texts) > 256  # more than one request may have
    with Client(server.url) as client:
        found = client.embed(texts)
    np.testing.assert_allclose(found.vectors_ND, np.tile(vectors, (5, 1)), atol=1e-6)
    assert (found.source.release, found.source.number) == (published.name, published.number)


def test_rows_with_images_lists_and_nulls_get_the_vectors_of_the_release(
    rich_server: ServerProcess, every_input: Release
) -> None:
    rows, vectors = golden(every_input)
    with Client(rich_server.url) as client:
        np.testing.assert_allclose(client.embed(rows.to_pylist()).vectors_ND, vectors, atol=1e-5)


@pytest.mark.anyio
async def test_the_asynchronous_client_gets_the_same(server: ServerProcess, published: Release) -> None:
    rows, vectors = golden(published)
    async with AsyncClient(server.url, expect_release=published.name) as client:
        found = await client.embed(rows.to_pylist(), encoder="item")
        np.testing.assert_allclose(found.vectors_ND, vectors, atol=1e-6)
        assert (await client.release())["release"] == published.name


def test_a_search_finds_what_the_release_finds(server: ServerProcess, published: Release) -> None:
    with Client(server.url) as client:
        vector = client.embed(["item 7"]).vectors_ND[0]
        for hits in (client.search("item 7", k=3).hits, client.search(vector=vector, k=3).hits):
            assert [hit.id for hit in hits] == [hit.id for hit in published.search("item 7", k=3)]
        assert client.search(item="s7", k=1).hits[0].id == "s7"


def test_an_item_and_what_is_like_it_are_those_of_the_release(
    server: ServerProcess, published: Release
) -> None:
    with Client(server.url) as client:
        item = client.item("s7")
        assert (item.id, item.fields, item.source.number) == ("s7", {"title": "item 7", "price": 3.5}, 1)
        similar = client.similar("s7", k=3).hits
        assert [hit.id for hit in similar] == [hit.id for hit in published.search(item="s7", k=4)][1:]
        cheap = client.search("item 7", k=50, where="price < 10").hits
        assert len(cheap) == 20


def test_what_the_server_refuses_is_told(server: ServerProcess) -> None:
    with Client(server.url) as client, pytest.raises(RequestRefused, match="input 1 is empty") as caught:
        client.embed(["a", ""])
    assert caught.value.status == 400
    with (
        Client(server.url, expect_release=7) as client,
        pytest.raises(ReleaseMismatch, match="7 was expected"),
    ):
        client.search("item 7")
