"""The Open Inference Protocol (KServe v2) over gRPC, by Triton's own client."""

from __future__ import annotations

from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import numpy.typing as npt

from embedmill.errors import ModelError
from embedmill.extras import optional
from embedmill.runtimes.base import TensorSpec
from embedmill.runtimes.remote.base import (
    Description,
    Feeds,
    NotThere,
    Unanswered,
    answer_bytes,
    as_bytes,
    one_line,
)
from embedmill.runtimes.remote.kserve import check_version, datatype_of, specs, tensor
from embedmill.spec import TritonSpec

PASSING = {
    f"StatusCode.{name}" for name in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED")
}
"""Statuses that say: not now."""
RECONNECT_MS = 1000
"""How long a channel waits at most before it dials again: `retrying` waits already."""
SENT_BYTES = 2**31 - 1


class KServeGrpc:
    """A model at a Triton; see `ModelServer`. Nothing is encrypted, and no proxy is asked."""

    def __init__(self, spec: TritonSpec, url: str, *, said_by: str) -> None:
        """Connect to nothing yet."""
        self._spec, self._said_by = spec, said_by
        self._triton = _library()
        self._host = urlsplit(url).netloc
        self._client: Any = None

    async def describe(self) -> Description:
        """Ask what the model is fed, and what it gives."""
        name, version, timeout_s = self._spec.model, str(self._spec.version), self._spec.timeout_s
        try:
            client = self._open()
            server = await client.get_server_metadata(client_timeout=timeout_s)
            model = await client.get_model_metadata(name, version, client_timeout=timeout_s)
            config = await client.get_model_config(name, version, client_timeout=timeout_s)
        except self._triton.utils.InferenceServerException as error:
            raise self._meaning(error) from error
        return Description(
            server=server.version,
            version=version if version in model.versions else ", ".join(model.versions),
            inputs=specs((t.name, t.datatype, t.shape) for t in model.inputs),
            outputs=specs((t.name, t.datatype, t.shape) for t in model.outputs),
            max_batch=config.config.max_batch_size,
        )

    async def infer(self, feeds: Feeds, output: TensorSpec) -> npt.NDArray[Any]:
        """Compute one output."""
        version = str(self._spec.version)
        try:
            found = await self._open().infer(
                self._spec.model,
                [self._input(name, array) for name, array in feeds.items()],
                version,
                [self._triton.grpc.InferRequestedOutput(output.name)],
                client_timeout=self._spec.timeout_s,
            )
        except self._triton.utils.InferenceServerException as error:
            raise self._meaning(error) from error
        response = found.get_response()
        check_version(response.model_version, version, said_by=self._said_by)
        try:
            (data,), (said,) = response.raw_output_contents, response.outputs
            return tensor(data, said.datatype, said.shape, output, said_by=self._said_by)
        except ValueError as error:
            raise ModelError(f"{self._said_by}: answered no tensor: {one_line(str(error))}") from error

    async def close(self) -> None:
        """Close the channel."""
        if self._client is not None:
            await self._client.close()

    def _open(self) -> Any:
        """A channel belongs to the loop that is running when it is made."""
        if self._client is None:
            widest = TensorSpec("", "float64", (None, None))
            most_bytes = answer_bytes(self._spec.max_batch, widest, value_bytes=8)
            self._client = self._triton.grpc.aio.InferenceServerClient(
                self._host,
                channel_args=[
                    ("grpc.max_receive_message_length", min(most_bytes, SENT_BYTES)),
                    ("grpc.max_send_message_length", SENT_BYTES),
                    ("grpc.max_reconnect_backoff_ms", RECONNECT_MS),
                    ("grpc.enable_http_proxy", 0),
                ],
            )
        return self._client

    def _meaning(self, error: Any) -> Exception:
        status, words = str(error.status()), one_line(str(error.message()))
        said = f"{status.removeprefix('StatusCode.')} {words}"
        if status == "StatusCode.RESOURCE_EXHAUSTED" and "larger than max" in words:
            return ModelError(f"{self._said_by}: answered more than fits: {words}")
        if status in PASSING:
            refused = status == "StatusCode.UNAVAILABLE" and "connect" in words.lower()
            return Unanswered(f"answered {said}", reached=not refused)
        if status == "StatusCode.NOT_FOUND":
            return NotThere(f"{self._said_by}: answered {said}")
        return ModelError(f"{self._said_by}: answered {said}")

    def _input(self, name: str, array: npt.NDArray[Any]) -> Any:
        tensor = self._triton.grpc.InferInput(name, list(array.shape), datatype_of(array))
        return tensor.set_data_from_numpy(as_bytes(array) if array.dtype.kind in "OSU" else array)


def _library() -> ModuleType:
    with optional("tritonclient", "tritonclient", "grpc", extra="triton"):
        import tritonclient.grpc.aio
        import tritonclient.utils
    module: ModuleType = tritonclient
    return module
