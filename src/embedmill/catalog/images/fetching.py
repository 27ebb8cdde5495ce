"""Many images from many hosts at once: limits a host, patience with each image, a deadline for all."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal, TypeVar

import aiohttp

from embedmill.catalog.images.base import Refused
from embedmill.catalog.images.circuits import Circuits
from embedmill.catalog.images.client import Answer, Client, Stalled
from embedmill.catalog.images.guard import Guard, Resolve, shown_url
from embedmill.types import Reason, Rejection

if TYPE_CHECKING:
    from embedmill.spec import FetchSpec

ResultT = TypeVar("ResultT")
Ask = Callable[..., Awaitable[Answer]]
"""`Client.ask` with retries."""

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 20.0
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}
_FINAL = (aiohttp.ClientConnectorCertificateError, aiohttp.ClientResponseError, aiohttp.InvalidURL)
"""Errors that another try does not mend: no certificate, no HTTP."""


class Fetching:
    """Fetches batches of images; what it learns of dead hosts it keeps."""

    def __init__(self, spec: FetchSpec, resolve: Resolve, loops: int = 1) -> None:
        """Fetch as `spec` says, with `resolve` as the name server, and the connections of so many `loops`.

        After how many images a host is dead depends on the spec alone: more lanes find it out no later.
        """
        self._spec, self._resolve = spec, resolve
        self._connections = spec.connections_per_host * loops
        self._circuits = Circuits(2 * spec.connections_per_host)

    async def all(
        self,
        urls: Sequence[str],
        work: Callable[[str, Ask], Awaitable[ResultT]],
        found: dict[str, ResultT | Rejection],
    ) -> None:
        """Fill `found` with what `work` makes of each URL, or why not; within the deadline.

        Raises:
            Exception: Whatever else `work` raised; the rest is given up.
        """
        slots: defaultdict[str, asyncio.Semaphore] = defaultdict(self._new_slots)
        # In random order: a stretch of the catalog that is dead is not a host that is.
        shuffled = random.Random(0).sample(urls, len(urls))  # noqa: S311 - no secret
        guard = Guard(self._spec.allow, self._resolve)
        async with Client(self._spec, guard, self._connections) as client:

            async def fetch(url: str) -> None:
                found[url] = await self._one(client, slots, url, work)

            try:
                async with asyncio.timeout(self._spec.deadline_s), asyncio.TaskGroup() as group:
                    for url in shuffled:
                        group.create_task(fetch(url))
            except TimeoutError:
                pass
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None
        late = f"not fetched within the {self._spec.deadline_s:g} s for all images"
        for url in urls:
            found.setdefault(url, Rejection(Reason.FETCH_TIMEOUT, f"{shown_url(url)}: {late}"))

    def _new_slots(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(self._connections)

    async def _one(
        self,
        client: Client,
        slots: Mapping[str, asyncio.Semaphore],
        url: str,
        work: Callable[[str, Ask], Awaitable[ResultT]],
    ) -> ResultT | Rejection:
        host, patient = _host_of(url), None
        try:
            async with slots[host]:
                self._circuits.check(host)
                async with asyncio.timeout(self._spec.timeout_s) as patience:
                    patient = _Patient(client, self._circuits, host, self._spec.attempts, patience)
                    return await work(url, patient.ask)
        except Refused as refused:
            return Rejection(refused.rejection.reason, f"{shown_url(url)}: {refused}")
        except TimeoutError:
            self._circuits.failed(host)
            late = f"; in an earlier try {patient.late}" if patient is not None and patient.late else ""
            said = f"no whole answer within {self._spec.timeout_s:g} s{late}"
            return Rejection(Reason.FETCH_TIMEOUT, f"{shown_url(url)}: {said}")


class _Patient:
    """Asks for one image until there is an answer, or no sense in asking again."""

    def __init__(
        self, client: Client, circuits: Circuits, host: str, attempts: int, patience: asyncio.Timeout
    ) -> None:
        self._client, self._circuits, self._host = client, circuits, host
        self._attempts, self._patience = attempts, patience
        self.late = ""
        """What the last try that ended for lack of an answer had waited for."""

    async def ask(
        self, method: Literal["GET", "HEAD"], url: str, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One answer that is final, whatever its status.

        Raises:
            Refused: There is none.
        """
        pause_s = FIRST_PAUSE_S
        for tries_left in range(self._attempts - 1, -1, -1):
            asked_for_s = 0.0
            try:
                answer = await self._client.ask(method, url, headers)
                if answer.status not in _WORTH_ANOTHER_TRY:
                    self._circuits.answered(self._host)
                    return answer
                refused = Refused(f"answers {answer.status}", Reason.FETCH_FAILED)
                asked_for_s = retry_after_s(answer.headers)
            except _FINAL as error:
                raise Refused(_said(error), Reason.FETCH_FAILED) from error
            except TimeoutError as error:
                self.late = self._waited_for(error)
                refused = Refused(f"gave no answer in time: {self.late}", Reason.FETCH_TIMEOUT)
            except (aiohttp.ClientError, OSError) as error:
                refused = Refused(_said(error), Reason.FETCH_FAILED)
            wait_s = max(asked_for_s, pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            if not tries_left or not self._has(wait_s):
                break
            await asyncio.sleep(wait_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self._circuits.failed(self._host)
        raise refused

    def _waited_for(self, error: TimeoutError) -> str:
        match error:
            case aiohttp.ConnectionTimeoutError():
                what = "no connection was there"
            case Stalled():
                what = "no more bytes came"
            case _:
                what = "no first byte came"
        return f"{what} within {self._client.patience_s:.3g} s, a third of catalog.fetch.timeout_s"

    def _has(self, seconds: float) -> bool:
        ends = self._patience.when()
        return ends is None or asyncio.get_running_loop().time() + seconds < ends


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks to wait, LONGEST_PAUSE_S at most; 0 where it does not.

    Seconds or a date: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return min(float(said[:9]), LONGEST_PAUSE_S)
    try:
        moment = parsedate_to_datetime(said)
    except ValueError:
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((moment - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_PAUSE_S)


def _host_of(url: str) -> str:
    """What comes before the path: only to share slots and failures by."""
    return shown_url("/".join(url.split("/", 3)[:3]).lower())


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    text = f"{type(error).__name__}: {lines[0]}" if lines[0] else type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"
