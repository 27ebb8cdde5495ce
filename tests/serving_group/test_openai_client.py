"""The client that OpenAI publishes, as it is: only its base URL is another."""

from __future__ import annotations

from typing import Literal

import numpy as np
import openai
import pytest
from tests.serving_group.goldens import golden
from tests.support.server_process import ServerProcess

from embedmill.release.reader import Release

ENCODINGS: list[Literal["float", "base64"]] = ["float", "base64"]


@pytest.fixture
def client(server: ServerProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_the_queries_of_the_release_get_their_vectors(client: openai.OpenAI, published: Release) -> None:
    rows, vectors = golden(published, "query_text")
    texts = rows.column("query").to_pylist()[:200]
    answer = client.embeddings.create(model="test", input=texts)  # base64, which the client asks for itself
    found = np.array([each.embedding for each in answer.data])
    np.testing.assert_allclose(found, vectors[:200], atol=1e-6)
    assert answer.model == "test-query_text"
    assert answer.usage.prompt_tokens == sum(min(64, 1 + len(text.encode())) for text in texts)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_one_text_gets_one_vector(
    client: openai.OpenAI, published: Release, encoding: Literal["float", "base64"]
) -> None:
    answer = client.embeddings.create(model="test-query_text", input="item 7", encoding_format=encoding)
    expected = published.encoder("query_text").encode_texts(["item 7"])[0]
    if encoding == "base64":  # asked for by hand, it is not taken apart
        import base64

        found = np.frombuffer(base64.b64decode(str(answer.data[0].embedding)), "<f4")
    else:
        found = np.array(answer.data[0].embedding)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.anyio
async def test_the_asynchronous_client_gets_the_same(client: openai.OpenAI, server: ServerProcess) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as other:
        answer = await other.embeddings.create(model="test", input="item 7", dimensions=16, user="me")
    assert answer == client.embeddings.create(model="test", input="item 7")


def test_an_encoder_may_be_chosen_beside_the_model(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="test", input="item 7", extra_body={"encoder": "query_text"})
    assert answer.model == "test-query_text"


def test_the_answer_names_its_release(client: openai.OpenAI, published: Release) -> None:
    answer = client.embeddings.with_raw_response.create(model="test", input="item 7")
    assert answer.headers["embedmill-release"] == published.name


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["tiny", "test", "test-item", "test-query_text"]
    assert client.models.retrieve("test-item").owned_by == "embedmill"


def test_an_unknown_model_is_the_clients_not_found_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model="gpt-4", input="item 7")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_tokens_are_the_clients_bad_request_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="not tokens") as caught:
        client.embeddings.create(model="test", input=[1, 2, 3])
    assert caught.value.type == "invalid_request_error"
