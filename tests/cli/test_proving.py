"""`prove`: the goldens of a release on a device of this machine."""

from __future__ import annotations

import pytest
from tests.cli.terminal import Terminal
from tests.support.mill import Mill, items


@pytest.fixture
def published(mill: Mill) -> Mill:
    mill.run(items(40))
    return mill


def test_a_device_that_makes_the_published_vectors_passes(published: Mill, embedmill: Terminal) -> None:
    proof = embedmill.json("prove", published.root / "pipeline.yaml", "--seconds", "0.1")
    assert (proof["schema"], proof["release"], proof["device"]) == (
        "device-proof/1",
        published.live().name,
        "cpu",
    )
    assert {each["encoder"] for each in proof["encoders"]} == {"item", "query_text"}
    for each in proof["encoders"]:
        assert each["goldens"] > 0
        assert each["rows_per_s"] > 0
        assert each["lowest_cosine"] >= proof["tolerance"]
    assert proof["gpu_bytes"] is None


def test_the_table_shows_each_encoder(published: Mill, embedmill: Terminal) -> None:
    said = embedmill("prove", published.root / "pipeline.yaml", "--seconds", "0")
    assert said.code == 0
    assert [line.split()[:2] for line in said.out.splitlines() if " pass " in line] == [
        ["item", "pass"],
        ["query_text", "pass"],
    ]


def test_vectors_that_are_not_near_enough_end_with_3(
    published: Mill, embedmill: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedmill.serving.device_proof.LOWEST_COSINE", 1.1)
    said = embedmill("prove", published.root / "pipeline.yaml", "--seconds", "0")
    assert said.code == 3
    assert said.out.count("FAIL") == 2
