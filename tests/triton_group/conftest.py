"""Servers for the tests of the group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests import tiny_text
from tests.triton_group.server import Triton

from embedmill.spec import TritonSpec

MODELS = Path(__file__).parent / "models"
TINY = TritonSpec(kind="triton", model="tiny", version=3, retry_for_s=60)


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """A Triton with the tiny text model, of six dimensions and, as `tiny16`, of sixteen."""
    server = Triton(tmp_path_factory.mktemp("triton"))
    for name, dimension in (("tiny", 6), ("tiny16", 16)):
        weights = server.folder / "weights.npz"
        np.savez(weights, **tiny_text.weights(dimension=dimension))  # type: ignore[arg-type]
        server.add(name, MODELS / "tiny_text.py", weights, dimension=dimension)
    kinds = {"words": "TYPE_STRING", "flags": "TYPE_BOOL", "halves": "TYPE_FP16"}
    inputs = "\n".join(
        f'input [{{ name: "{n}", data_type: {kind}, dims: [2] }}]' for n, kind in kinds.items()
    )
    server.add("kinds", MODELS / "kinds.py", dimension=3, version=1, inputs=inputs, output="TYPE_FP16")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def asked(triton: Triton, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Triton:
    """The server as the environment names it: by the test class's `scheme`, else by HTTP."""
    scheme = getattr(request.cls, "scheme", "http")
    monkeypatch.setenv(TritonSpec.VARIABLE, triton.url(scheme))
    return triton
