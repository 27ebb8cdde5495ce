"""Asks an embedding server from anywhere: several requests at once, and again where there is no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy.typing as npt

from embedmill.extras import optional
from embedmill.runtimes.base import Place, Runtime
from embedmill.runtimes.remote.base import Feeds
from embedmill.runtimes.remote.fields.base import Asked, FieldServer, Refusal, Told
from embedmill.runtimes.remote.loop import EventLoop
from embedmill.runtimes.remote.retrying import Retrying
from embedmill.runtimes.remote.runtime import connect
from embedmill.spec import TfServingSpec
from embedmill.spec.address import check_address, shown_address

Protocol: TypeAlias = Literal["openai", "oip", "triton", "tf_serving"]
SCHEMES = ("http", "https")
TIMEOUT_S = 60.0
RETRY_FOR_S = 20.0
LIMITED_FOR_S = 600.0
"""How long one comparison waits in all for a server that wants to be asked less often."""
AGAIN = "run again when it is back"


class AskedServer:
    """A server at a URL.

    Calls raise ServerUnavailable where it gives no answer, ServerDenied where it wants a key or another one,
    and ModelError for all else.
    """

    def __init__(
        self,
        url: str,
        protocol: Protocol,
        *,
        key: str = "",
        timeout_s: float = TIMEOUT_S,
        retry_for_s: float = RETRY_FOR_S,
        limited_for_s: float = 0.0,
    ) -> None:
        """Connect to nothing yet; `key` is sent with every request.

        `limited_for_s`: how long all requests together wait for a server that wants to be asked less often.

        Raises:
            ValueError: The URL is none of HTTP.
            MissingExtra: aiohttp is not installed.
        """
        check_address(url, SCHEMES, credentials=True)
        self._url, self._protocol = url, protocol
        self._timeout_s, self._retry_for_s = timeout_s, retry_for_s
        self._server = _speaking(protocol, url, timeout_s, key)
        self._retrying = Retrying(shown_address(url), retry_for_s, limited_for_s, again=AGAIN)
        self._loop = EventLoop("embedmill-asking")

    @property
    def url(self) -> str:
        """Where it is, without credentials."""
        return shown_address(self._url)

    @property
    def protocol(self) -> str:
        """What it speaks."""
        return self._protocol

    @property
    def versioned(self) -> bool:
        """Whether requests name the version that they want."""
        return self._server.VERSIONED

    def describe(self, asked: Asked) -> Told:
        """What the server says of a model."""
        return self._loop.run(self._retrying.ask(lambda: self._server.describe(asked)))

    def embed(self, asked: Asked, requests: Sequence[Feeds], *, at_once: int = 1) -> list[npt.NDArray[Any]]:
        """The output of each request, in order; so many are in flight at once."""
        return self._loop.run(self._all(asked, requests, at_once))

    def refusal(self, asked: Asked, tensors: Feeds) -> Refusal | None:
        """What the server says of a request that it should refuse; None where it answers it."""
        return self._loop.run(self._retrying.ask(lambda: self._server.refusal(asked, tensors)))

    def graph(self, asked: Asked, *, signature: str, output: str | None) -> Runtime:
        """A model of a TensorFlow Serving as a runtime, which is fed what its graph reads.

        Raises:
            ModelError: The model has no such signature or output.
        """
        from embedmill.runtimes.remote.tf_rest import TfServing

        spec = TfServingSpec(
            kind="tf_serving",
            model=asked.model,
            version=asked.version,
            signature=signature,
            output=output,
            timeout_s=self._timeout_s,
            retry_for_s=self._retry_for_s,
        )
        said_by = f"{self.url}: model {asked.model!r} {asked.version}"
        return connect(spec, TfServing(spec, self._url, said_by=said_by), self._url, place=Place("cpu"))

    def close(self) -> None:
        """Close connections, and end the thread."""
        self._loop.close(self._server.close())

    def __enter__(self) -> AskedServer:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    async def _all(self, asked: Asked, requests: Sequence[Feeds], at_once: int) -> list[npt.NDArray[Any]]:
        places = asyncio.Semaphore(at_once)

        async def one(tensors: Feeds) -> npt.NDArray[Any]:
            async with places:
                return await self._retrying.ask(lambda: self._server.embed(asked, tensors))

        tasks = [asyncio.ensure_future(one(tensors)) for tensors in requests]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()


def _speaking(protocol: Protocol, url: str, timeout_s: float, key: str) -> FieldServer:
    with optional("aiohttp", "aiohttp", extra="http"):
        from embedmill.runtimes.remote.fields.oip import OipFields
        from embedmill.runtimes.remote.fields.openai import OpenAiFields
        from embedmill.runtimes.remote.fields.tf_rest import TfFields
        from embedmill.runtimes.remote.http import HttpServer
    makers: dict[str, Callable[..., FieldServer]] = {
        "openai": OpenAiFields,
        "oip": OipFields,
        "triton": OipFields,
        "tf_serving": TfFields,
    }
    return makers[protocol](HttpServer(url, timeout_s=timeout_s, key=key), said_by=shown_address(url))
