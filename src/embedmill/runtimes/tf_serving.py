"""Runtime `tf_serving`: a model at a TensorFlow Serving, over REST; TensorFlow is not needed."""

from __future__ import annotations

from pathlib import Path

from embedmill.extras import optional
from embedmill.runtimes.base import Place
from embedmill.runtimes.remote.runtime import RemoteModel, address, connect
from embedmill.spec import TfServingSpec
from embedmill.spec.address import shown_address


def load(spec: TfServingSpec, root: Path, *, place: Place) -> RemoteModel:  # noqa: ARG001 - the server has all
    """Ask a TensorFlow Serving for its model; see `load_runtime`."""
    url = address(spec)
    with optional("aiohttp", "aiohttp", extra="http"):
        from embedmill.runtimes.remote.tf_rest import TfServing
    said_by = f"{shown_address(url)}: model {spec.model!r} {spec.version}"
    return connect(spec, TfServing(spec, url, said_by=said_by), url, place=place)
