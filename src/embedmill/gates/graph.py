"""A TensorFlow Serving with the release's SavedModel: what its graph reads is made on this side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy.typing as npt

from embedmill.errors import ModelError
from embedmill.model import Encoder, ModelPackage
from embedmill.model.feeds import bind
from embedmill.model.images import ImageDecoder
from embedmill.model.raw_tensors import Tensors, rows_of_tensors
from embedmill.runtimes.remote.fields.base import Asked, Refusal, Told
from embedmill.spec import TensorFlowSpec
from embedmill.spec.documents import Profile

if TYPE_CHECKING:
    from embedmill.gates.parity import Embeds
    from embedmill.runtimes import Runtime


@runtime_checkable
class ServesGraphs(Protocol):
    """An optional power of servers: a model is fed what its graph reads."""

    def graph(self, asked: Asked, *, signature: str, output: str | None) -> Runtime:
        """The model as a runtime."""
        ...


@dataclass(frozen=True)
class GraphEmbeds:
    """The server, with tokens and pixels made on this side; see `Embeds`."""

    inner: Embeds
    encoder: Encoder
    asked: Asked
    told: Told

    @property
    def url(self) -> str:
        """That of the server."""
        return self.inner.url

    @property
    def protocol(self) -> str:
        """That of the server."""
        return str(self.inner.protocol)

    @property
    def versioned(self) -> bool:
        """Requests name the version."""
        return True

    def describe(self, asked: Asked) -> Told:  # noqa: ARG002 - the seam
        """What the server says; inputs and outputs are the graph's, and were compared when it was bound."""
        return Told(server=self.told.server, labels=self.told.labels)

    def embed(
        self,
        asked: Asked,  # noqa: ARG002 - the seam
        requests: Sequence[Tensors],
        *,
        at_once: int = 1,  # noqa: ARG002
    ) -> list[npt.NDArray[Any]]:
        """The vectors of each request, one after another."""
        return [self._embedded(tensors) for tensors in requests]

    def refusal(self, asked: Asked, tensors: Tensors) -> Refusal | None:
        """Of other models and versions: this one has no limit of rows of its own."""
        return None if asked == self.asked else self.inner.refusal(asked, tensors)

    def _embedded(self, tensors: Tensors) -> npt.NDArray[Any]:
        inputs = self.encoder.package.inputs(self.encoder.name)
        encoded = self.encoder.encode(rows_of_tensors(inputs, tensors))
        for why in encoded.rejected.values():
            raise ModelError(f"a golden was rejected: {why.reason}: {why.detail}")
        return encoded.vectors_ND


def graph_embeds(
    server: Embeds, package: ModelPackage, encoder: str, asked: Asked, told: Told
) -> GraphEmbeds | None:
    """The server as one of graphs, if its model reads other things than the encoder's fields.

    Raises:
        ModelError: Its graph is not the one that the encoder feeds.
    """
    fields, saved = package.inputs(encoder).fields, _saved_model(package, encoder)
    if saved is None or told.inputs is None or set(told.inputs) == set(fields):
        return None
    if not isinstance(server, ServesGraphs):
        return None
    runtime = server.graph(asked, signature=saved.signature, output=saved.output)
    profile = Profile(
        runtime=runtime.name,
        runtime_version=runtime.version,
        device="cpu",
        precision=package.spec.precision,
        threads=1,
        batch_tokens=512,
        batch_images=16,
        libraries={},
    )
    binding = bind(package, encoder, runtime, ImageDecoder(children=1))
    made = Encoder(package, encoder, package.spec.dimension, profile, runtime, binding)
    return GraphEmbeds(server, made, asked, told)


def _saved_model(package: ModelPackage, encoder: str) -> TensorFlowSpec | None:
    return next((r for r in package.spec.runtimes_for(encoder) if isinstance(r, TensorFlowSpec)), None)
