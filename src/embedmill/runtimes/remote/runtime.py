"""A model at a server, as a runtime: splits, sends, repeats, joins, and lets nothing change in between."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from embedmill.errors import DeviceUnavailable, ModelError, ServerUnavailable, SpecError
from embedmill.runtimes.base import Place, TensorSpec, checked_vectors, choose_output
from embedmill.runtimes.remote.base import Description, Feeds, ModelServer, NotThere, Unanswered, rows_of
from embedmill.runtimes.remote.feeds import check_requests, split
from embedmill.runtimes.remote.loop import EventLoop
from embedmill.runtimes.remote.retrying import Retrying
from embedmill.spec import Precision, RemoteRuntime
from embedmill.spec.address import check_address, shown_address
from embedmill.types import Vectors

DEVICES = ("cpu", "cuda", "tpu")
"""The server computes where it does; whatever device a worker has is left alone."""
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "float16", "bfloat16")


@dataclass(frozen=True, eq=False)
class RemoteModel:
    """A model that a server has."""

    name: str
    said_by: str
    described: Description
    output: TensorSpec
    spec: RemoteRuntime
    server: ModelServer
    retrying: Retrying
    loop: EventLoop

    @property
    def version(self) -> str:
        """The server's, where it says one, and the model's: `2.51.0, two_tower 3`."""
        return _identity(self.spec, self.described)

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """What `run` must be fed."""
        return self.described.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """What the model offers."""
        return self.described.outputs

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Vectors:
        """Compute the chosen output, float32[N, D]; see `Runtime.run`."""
        return self.run_watched(feeds, None)

    def run_watched(
        self, feeds: Mapping[str, npt.NDArray[Any]], while_waiting: Callable[[], object] | None
    ) -> Vectors:
        """The same; see `Waiting`.

        Raises:
            ModelError: The feeds do not fit, the server refused them, or its answer is not what it promised.
            ServerUnavailable: It gave no answer for `retry_for_s`, or is not the one that it was.
        """
        check_requests(feeds, self.inputs, said_by=self.said_by)
        limits = [self.spec.max_batch, self.described.max_batch]
        parts = split(feeds, min(limit for limit in limits if limit > 0))
        answers = self.loop.run(self._all(parts), while_waiting)
        return np.concatenate(answers) if answers else np.zeros((0, 0), np.float32)

    async def _all(self, parts: list[Feeds]) -> list[Vectors]:
        """The vectors of all parts, in order. The first that fails ends the others."""
        places = asyncio.Semaphore(self.spec.in_flight)

        async def one(feeds: Feeds) -> Vectors:
            async with places:
                return await self._one(feeds)

        tasks = [asyncio.ensure_future(one(feeds)) for feeds in parts]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def _one(self, feeds: Feeds) -> Vectors:
        failed = False

        async def question() -> npt.NDArray[Any]:
            nonlocal failed
            try:
                if failed:
                    self._check_same(await self.server.describe())
                return await self.server.infer(feeds, self.output)
            except NotThere as error:  # it was there: it is being loaded again
                failed = True
                raise Unanswered(error.message) from error
            except Unanswered:
                failed = True
                raise

        return self._checked(await self.retrying.ask(question), rows_of(feeds))

    def _check_same(self, now: Description) -> None:
        """After a failure the server may be another: vectors of two are never mixed in one batch."""
        if now != self.described:
            before, after = (_identity(self.spec, described) for described in (self.described, now))
            how = (
                f"was {before}, and is {after} now" if before != after else "has other inputs or outputs now"
            )
            raise ServerUnavailable(
                f"{self.said_by}: is not what it was: {how}",
                hint="run again: a new attempt works with the server as it is",
            )

    def _checked(self, computed: npt.NDArray[Any], rows: int) -> Vectors:
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite, and rejected by row
            vectors = checked_vectors(computed, self.output, said_by=self.said_by)
        width = self.output.shape[-1] if self.output.shape else None
        if len(vectors) != rows or (isinstance(width, int) and vectors.shape[1] != width):
            raise ModelError(
                f"{self.said_by}: answered {list(vectors.shape)} for {rows} rows of {self.output}"
            )
        return vectors


def connect(spec: RemoteRuntime, server: ModelServer, url: str, *, place: Place) -> RemoteModel:
    """Ask a server what its model is, and make it a runtime.

    Raises:
        ModelError: It does not have the model, or the model has no such output.
        ServerUnavailable: It gave no answer.
    """
    place.check(spec.kind, devices=DEVICES, precisions=PRECISIONS)
    said_by = f"{shown_address(url)}: model {spec.model!r} {spec.version}"
    loop = EventLoop(f"embedmill-{spec.kind}")
    retrying = Retrying(said_by, spec.retry_for_s)
    try:
        described = loop.run(retrying.ask(server.describe))
        if described.version != str(spec.version):
            raise ModelError(f"{said_by}: the server answers with version {described.version!r}")
        output = choose_output(described.outputs, spec.output, said_by=said_by)
    except BaseException:
        loop.close(server.close())
        raise
    model = RemoteModel(spec.kind, said_by, described, output, spec, server, retrying, loop)
    weakref.finalize(model, _close, loop, server)
    return model


def _close(loop: EventLoop, server: ModelServer) -> None:
    loop.close(server.close())


def address(spec: RemoteRuntime, environment: Mapping[str, str] = os.environ) -> str:
    """Where the server is: as the environment says, else as the package does.

    Raises:
        SpecError: The environment says something that is no address.
        DeviceUnavailable: Neither says anything: this runtime cannot compute here, another may.
    """
    said = environment.get(spec.VARIABLE, "")
    if said:
        try:
            check_address(said, spec.SCHEMES, credentials=True)
        except ValueError as error:
            raise SpecError(f"environment: {spec.VARIABLE}: {error}") from None
        return said
    if spec.url is None:
        raise DeviceUnavailable(
            f"{spec.kind}: nothing says where the server of model {spec.model!r} is",
            hint=f"set {spec.VARIABLE}, such as {spec.SCHEMES[0]}://host:port, or `url` in model.yaml",
        )
    return spec.url


def _identity(spec: RemoteRuntime, described: Description) -> str:
    model = f"{spec.model} {described.version}"
    return f"{described.server}, {model}" if described.server else model
