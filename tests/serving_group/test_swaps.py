"""A new model goes live while clients ask."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from tests.support.mill import Mill, items, reweighted
from tests.support.patience import PATIENCE_S
from tests.support.server_process import serving

from embedmill.client import Client, Embedded
from embedmill.errors import ReleaseMismatch

TEXTS = [f"item {number}" for number in range(40)]


def test_clients_never_mix_two_models_and_pinned_ones_refuse_the_new_one(
    tmp_path: Path, tiny_model: Path
) -> None:
    mill = Mill(tmp_path, tiny_model)
    mill.run(items(100))
    first = mill.live()
    with serving(tmp_path / "pipeline.yaml", "--follow", "0.1") as server:
        answers: list[Embedded] = []
        swapped = threading.Event()

        def keep_asking() -> None:
            with Client(server.url) as client:
                while not swapped.is_set() or len({answer.source for answer in answers}) < 2:
                    answers.append(client.embed(TEXTS, batch=4))

        asking = threading.Thread(target=keep_asking, daemon=True)
        asking.start()
        pinned = Client(server.url, expect_release=first.name)
        old = pinned.embed(TEXTS)
        Mill(tmp_path, reweighted(tmp_path / "new", lambda values: values[::-1].copy())).run(items(100))
        swapped.set()
        asking.join(PATIENCE_S)
        assert not asking.is_alive(), "the new release was never served"
        with pytest.raises(ReleaseMismatch, match=f"number 2, answered, and {first.name} was expected"):
            pinned.embed(TEXTS)

    second = mill.live()
    expected = {each.name: each.encoder("query_text").encode_texts(TEXTS) for each in (first, second)}
    assert {answer.source.release for answer in answers} == set(expected)
    assert not np.allclose(expected[first.name], expected[second.name], atol=0.1)
    for answer in [old, *answers]:
        np.testing.assert_allclose(answer.vectors_ND, expected[answer.source.release], atol=1e-5)
