from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from tests.models import tiny_image_package
from tests.serving.conftest import drawn, load
from tests.support.mill import Mill, items

from embedmill.release.reader import Release
from embedmill.serving.app import make_app
from embedmill.serving.depends import Server
from embedmill.serving.live import Live
from embedmill.serving.search.pictures import has_pictures
from embedmill.spec import ServingSpec

PICTURES = 12


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release of items with pictures, which its pipeline shows."""
    root = tmp_path_factory.mktemp("pictures")
    mill = Mill(root, tiny_image_package(root / "model"))
    mill.schema = pa.schema([("sku", pa.string()), ("image", pa.binary()), ("note", pa.binary())])
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku", "display": ["note", "image"]}
    mill.run([{"sku": f"a/{n}", "image": drawn(n), "note": b"\x00"} for n in range(PICTURES)])
    return mill.live()


@pytest.fixture
def gallery(pictures: Release) -> Iterator[TestClient]:
    live = Live(load(pictures))
    with TestClient(make_app(Server(live))) as found:
        yield found
    live.close()


def test_a_filter_leaves_only_items_for_which_it_is_true(client: TestClient, published: Release) -> None:
    hits = client.post("/search", json={"text": "item 7", "k": 50, "where": "price < 10"}).json()["hits"]
    everything = published.search("item 7", k=300)
    assert [hit["id"] for hit in hits] == [hit.id for hit in everything if hit.fields["price"] < 10]
    assert len(hits) == 20


def test_a_filter_that_nothing_passes_finds_nothing(client: TestClient) -> None:
    answer = client.post("/search", json={"text": "item 7", "where": "price < 0"})
    assert answer.json()["hits"] == []


@pytest.mark.parametrize(
    "where", ["", "colour = 'red'", "price <", "price < 1; DROP TABLE items", "_state = 'x'"]
)
def test_a_filter_that_is_none_is_refused(client: TestClient, where: str) -> None:
    answer = client.post("/search", json={"text": "item 7", "where": where})
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert message.startswith("where: ")
    assert "catalog.where" not in message


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_text_without_anything_in_it_is_refused_by_its_place(client: TestClient, text: str) -> None:
    assert client.post("/search", json={"text": text}).status_code == 400
    answer = client.post("/search/batch", json={"queries": [{"item": "s1"}, {"text": "a"}, {"text": text}]})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "query 2 is empty"


def test_a_filter_is_as_long_as_a_text_may_be_at_most(client: TestClient) -> None:
    within, beyond = (f"title <> '{'x' * count}'" for count in (32_000, 32_768))
    assert client.post("/search", json={"item": "s1", "where": within}).status_code == 200
    answer = client.post("/search", json={"item": "s1", "where": beyond})
    assert answer.status_code == 413
    assert answer.json()["error"]["message"] == f"where has {len(beyond)} characters"


def test_hits_below_the_lowest_score_are_left_out(client: TestClient, published: Release) -> None:
    lowest = published.search("item 7", k=5)[-1].score
    hits = client.post("/search", json={"text": "item 7", "k": 50, "min_score": lowest}).json()["hits"]
    assert len(hits) >= 5
    assert all(hit["score"] >= lowest for hit in hits)


def test_only_the_fields_that_were_asked_for_are_shown(client: TestClient) -> None:
    hits = client.post("/search", json={"text": "item 7", "fields": ["price"]}).json()["hits"]
    assert {tuple(hit["fields"]) for hit in hits} == {("price",)}
    refused = client.post("/search", json={"text": "item 7", "fields": ["colour"]})
    assert "items show: title, price" in refused.json()["error"]["hint"]


def test_a_batch_answers_every_query_as_it_would_be_answered_alone(client: TestClient) -> None:
    queries = [{"text": "item 7", "k": 3}, {"item": "s9", "k": 2}, {"text": "item 250", "where": "price > 1"}]
    together = client.post("/search/batch", json={"queries": queries}).json()["results"]
    alone = [client.post("/search", json=query).json()["hits"] for query in queries]
    assert [[hit["id"] for hit in hits] for hits in together] == [
        [hit["id"] for hit in hits] for hits in alone
    ]


def test_an_image_finds_the_item_that_has_it(gallery: TestClient) -> None:
    form = gallery.post("/search/image", files={"file": ("a.png", drawn(3))}, data={"k": "2"})
    json = gallery.post("/search", json={"image": base64.b64encode(drawn(3)).decode(), "k": 2})
    assert [hit["id"] for hit in form.json()["hits"]] == [hit["id"] for hit in json.json()["hits"]]
    assert form.json()["hits"][0]["id"] == "a/3"


def test_what_is_no_image_is_refused_with_its_reason(gallery: TestClient) -> None:
    answer = gallery.post("/search/image", files={"file": ("a.png", b"no image")})
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert message.startswith("the image cannot be used: ")
    assert message.endswith(" (image-invalid)")
    coded = base64.b64encode(b"no image").decode()
    assert gallery.post("/search", json={"image": coded}).json()["error"]["message"] == message


def test_an_only_text_without_anything_in_it_has_no_number(client: TestClient) -> None:
    assert client.post("/search", json={"text": " "}).json()["error"]["message"] == "the text is empty"


def test_a_batch_says_which_of_its_queries_is_no_image(gallery: TestClient) -> None:
    broken = base64.b64encode(b"no image").decode()
    answer = gallery.post("/search/batch", json={"queries": [{"item": "a/1"}, {"image": broken}]})
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith("query 1 could not be embedded")


def test_a_model_of_images_says_that_it_embeds_no_text(gallery: TestClient) -> None:
    assert gallery.get("/release").json()["queries"] == {"text": False, "image": True}
    answer = gallery.post("/search", json={"text": "red"})
    assert answer.status_code == 400
    assert "embeds no query that is a text" in answer.json()["error"]["message"]


def test_an_item_is_shown_with_its_fields(client: TestClient) -> None:
    answer = client.get("/items/s7").json()
    assert (answer["id"], answer["fields"], answer["number"]) == ("s7", {"title": "item 7", "price": 3.5}, 1)
    assert client.get("/items/nobody").status_code == 404


def test_what_is_like_an_item_leaves_itself_out(client: TestClient, published: Release) -> None:
    hits = client.get("/items/s7/similar", params={"k": 4}).json()["hits"]
    assert [hit["id"] for hit in hits] == [hit.id for hit in published.search(item="s7", k=5)][1:]


def test_an_item_shows_its_picture_whatever_its_id_looks_like(gallery: TestClient) -> None:
    answer = gallery.get("/items/a%2F3/picture")
    assert (answer.content, answer.headers["content-type"]) == (drawn(3), "image/png")


LOOKALIKES = ["a", "a/b", "a/picture", "a/similar", "a%2Fb", "a//b", "a\nb", "100%", "?x=1#y", "бра/picture"]


@pytest.fixture(scope="module")
def lookalikes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Asks a server of items whose ids look like addresses, each with a picture of its own."""
    root = tmp_path_factory.mktemp("lookalikes")
    mill = Mill(root, tiny_image_package(root / "model"))
    mill.schema = pa.schema([("sku", pa.string()), ("image", pa.binary())])
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku", "display": ["image"]}
    mill.run([{"sku": id_, "image": drawn(n)} for n, id_ in enumerate(LOOKALIKES)])
    live = Live(load(mill.live()))
    with TestClient(make_app(Server(live))) as found:
        yield found
    live.close()


@pytest.mark.parametrize("id_", LOOKALIKES)
def test_a_quoted_id_is_that_item_whatever_it_looks_like(lookalikes: TestClient, id_: str) -> None:
    address = f"/items/{quote(id_, safe='')}"
    assert lookalikes.get(address).json()["id"] == id_
    assert lookalikes.get(f"{address}/picture").content == drawn(LOOKALIKES.index(id_))
    like = [hit["id"] for hit in lookalikes.get(f"{address}/similar").json()["hits"]]
    assert sorted([*like, id_]) == sorted(LOOKALIKES)


@pytest.mark.parametrize("id_", [".", ".."])
def test_an_id_that_has_no_address_is_found_by_its_body(tmp_path: Path, tiny_model: Path, id_: str) -> None:
    mill = Mill(tmp_path, tiny_model)
    mill.run([*items(3), {**items(1)[0], "sku": id_}])
    live, most = Live(load(mill.live())), ServingSpec().max_hits
    asker = TestClient(make_app(Server(live)))
    hits = asker.post("/search", json={"item": id_, "where": f"id = '{id_}'"}).json()["hits"]
    assert [(hit["id"], hit["fields"]["title"]) for hit in hits] == [(id_, "item 0")]
    like = asker.post("/search", json={"item": id_, "where": f"id <> '{id_}'", "k": most}).json()["hits"]
    assert sorted(hit["id"] for hit in like) == ["s0", "s1", "s2"]
    live.close()


def test_slashes_of_an_id_need_no_quotes_where_nothing_is_ambiguous(lookalikes: TestClient) -> None:
    assert lookalikes.get("/items/a/b").json()["id"] == "a/b"
    assert lookalikes.get("/items/a/b/picture").content == drawn(LOOKALIKES.index("a/b"))
    assert lookalikes.get("/items/a/%70icture").content == drawn(LOOKALIKES.index("a"))


def telling(asker: TestClient, told: Mapping[str, object]) -> TestClient:
    """Asks the same application as a server would that tells this of each request."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asker.app({**scope, **told}, receive, send)

    return TestClient(app)


@pytest.mark.parametrize("id_", ["a%2Fb", "100%", "a/b", "a\nb"])
def test_an_address_of_which_only_the_decoded_form_is_known_is_decoded_once(
    lookalikes: TestClient, id_: str
) -> None:
    for told in ({"raw_path": None}, {"raw_path": b"/items%2F" + quote(id_, safe="").encode()}):
        asker = telling(lookalikes, {"path": f"/items/{id_}", **told})
        assert asker.get("/").json()["id"] == id_


@pytest.mark.parametrize("root", ["/mill", "/ä b", "/items"])
@pytest.mark.parametrize("id_", LOOKALIKES)
def test_behind_a_root_path_ids_are_the_same(lookalikes: TestClient, root: str, id_: str) -> None:
    """Servers put it before the path (`uvicorn --root-path`, mounts), and some proxies do not."""
    address = f"/items/{quote(id_, safe='')}"
    asker = TestClient(lookalikes.app, root_path=root)
    assert asker.get(f"{root}{address}").json()["id"] == id_
    assert asker.get(f"{root}{address}/picture").content == drawn(LOOKALIKES.index(id_))
    if root != "/items":  # which the address would be taken for
        assert asker.get(address).json()["id"] == id_


def test_a_thumbnail_is_shown_where_the_pipeline_keeps_them(tmp_path: Path) -> None:
    mill = Mill(tmp_path, tiny_image_package(tmp_path / "model"))
    mill.schema = pa.schema([("sku", pa.string()), ("image", pa.binary())])
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku", "thumbnails": 16}
    mill.run([{"sku": "a", "image": drawn(1)}])
    live = Live(load(mill.live()))
    answer = TestClient(make_app(Server(live))).get("/items/a/picture")
    assert answer.content == mill.live().thumbnail("a")
    assert TestClient(make_app(Server(live))).get("/release").json()["pictures"]
    assert Image.open(io.BytesIO(answer.content)).size == (16, 16)
    live.close()


def test_an_item_without_a_picture_says_so(client: TestClient) -> None:
    assert client.get("/items/s7/picture").status_code == 404


def test_the_release_says_whether_any_item_has_a_picture(
    client: TestClient, gallery: TestClient, tmp_path: Path, tiny_model: Path
) -> None:
    assert client.get("/release").json()["pictures"] is False
    assert gallery.get("/release").json()["pictures"] is True
    mill = Mill(tmp_path, tiny_model)
    kinds = dict.fromkeys(("sku", "title", "category"), pa.string())
    mill.schema = pa.schema([*kinds.items(), ("raw", pa.binary())])
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku", "display": ["title", "raw"]}
    first, second = ({"sku": name, "title": name, "category": "x"} for name in "ab")
    mill.run([{**first, "raw": b"no picture"}, {**second, "raw": None}])
    assert not has_pictures(mill.live())
    mill.run([{**first, "raw": None}, {**second, "raw": drawn(1)}])
    assert has_pictures(mill.live())


def test_item_files_are_read_once_to_tell_whether_any_item_has_a_picture(
    tmp_path: Path, tiny_model: Path
) -> None:
    mill = Mill(tmp_path, tiny_model)
    kinds = [("sku", pa.string()), ("title", pa.string()), ("category", pa.string())]
    mill.schema = pa.schema([*kinds, ("raw", pa.binary())])
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku", "display": ["raw"]}
    mill.run([{"sku": "a", "title": "a", "category": "x", "raw": drawn(1)}])
    live = mill.live()
    live.searcher.read_items()
    for part in live.content.items:
        (live.folder / part.path).unlink()
    assert has_pictures(live)


def test_a_filter_over_many_segments_finds_what_comparing_everything_finds(published: Release) -> None:
    searcher = published.searcher
    among = searcher.where("price >= 20 AND price < 100")
    ids, vectors = published.to_numpy()
    query = vectors[17]
    scores = vectors @ query
    chosen = np.flatnonzero(among)
    best = chosen[np.argsort(-scores[chosen], kind="stable")][:10]
    assert {hit.id for hit in searcher.hits(query, 10, among=among)} == set(ids[best])


def test_the_page_and_its_parts_are_served_from_here(client: TestClient) -> None:
    page = client.get("/")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "://" not in page.text
    for name in ("search.js", "search.css"):
        assert f"pages/{name}" in page.text
        assert client.get(f"/pages/{name}").status_code == 200
    assert client.get("/pages/secrets.txt").status_code == 404


def test_the_description_of_the_api_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "://" not in page.replace("http://www.w3.org", "")
    assert client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200
    assert "/search" in client.get("/openapi.json").json()["paths"]


def ids(hits: list[dict[str, object]]) -> list[object]:
    return [hit["id"] for hit in hits]
