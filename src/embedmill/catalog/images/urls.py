"""Image references that are http(s) URLs: what identifies them, and their contents.

After tag, length and URL an identity has the server's validator: `E` and the ETag; or `M`, u32 length,
Last-Modified, Content-Length. An image without a validator is identified by its content.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from embedmill.catalog.images.apart import run_apart
from embedmill.catalog.images.base import Refused, content_identity, sized
from embedmill.catalog.images.client import check_size
from embedmill.catalog.images.fetching import Ask, Fetching
from embedmill.catalog.images.guard import Resolve, system_addresses
from embedmill.errors import CatalogError
from embedmill.types import Reason, Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from embedmill.catalog.images.client import Answer
    from embedmill.spec import FetchSpec

MOST_BYTES = 2**31 - 1
"""Of the images of one call: they are all in memory, and in one Arrow column."""

_HEAD_IS_REFUSED = {400, 403, 405, 501}
"""Also by servers that would answer a GET: signed URLs are signed for one method."""

_TOTAL = re.compile(r"bytes [^/]*/(\d+)")


class Urls:
    """Images at http(s) URLs. Each URL is asked for once a call."""

    def __init__(
        self, spec: FetchSpec, *, by_content: bool, resolve: Resolve = system_addresses, loops: int = 1
    ) -> None:
        """Identify images by their content, or else by what servers say of them.

        A host has as many connections as of so many `loops`.
        """
        self._spec, self._by_content = spec, by_content
        self._fetching = Fetching(spec, resolve, loops)

    def identify(self, urls: Sequence[str], on_done: Callable[[int], None]) -> dict[str, bytes | Rejection]:
        """What changes when an image does, by URL, or why nothing can be said of it."""
        found: dict[str, bytes | Rejection] = {}
        distinct = list(dict.fromkeys(urls))
        work = _digest if self._by_content else self._validate
        run_apart(self._fetching.all(distinct, work, found), lambda: on_done(len(found)))
        return found

    def load(
        self, wanted: Mapping[str, bytes | None], on_done: Callable[[int], None]
    ) -> dict[str, bytes | Rejection]:
        """Contents by URL, of images that are still those of the identities in `wanted`.

        Raises:
            CatalogError: They pass 2 GiB together.
        """
        found: dict[str, bytes | Rejection] = {}
        room = MOST_BYTES

        async def load(url: str, ask: Ask) -> bytes:
            nonlocal room
            answer = await _got(url, ask)
            _check_same(url, answer, wanted[url])
            room -= len(answer.body)
            if room < 0:
                raise CatalogError("the images of one shard pass 2 GiB", hint="set a smaller work.shard_rows")
            return answer.body

        run_apart(self._fetching.all(list(wanted), load, found), lambda: on_done(len(found)))
        return found

    async def _validate(self, url: str, ask: Ask) -> bytes:
        answer = await ask("HEAD", url)
        if answer.status in _HEAD_IS_REFUSED:
            answer = await ask("GET", url, {"Range": "bytes=0-0"})
        if answer.status not in {200, 206}:
            raise Refused(f"answers {answer.status}", Reason.FETCH_FAILED)
        validator = _validator(answer.headers)
        if validator is None:
            return await _digest(url, ask)
        check_size(int(_length(answer.headers) or 0), self._spec.max_bytes)
        return b"u1" + sized(url) + validator


async def _digest(url: str, ask: Ask) -> bytes:
    return content_identity((await _got(url, ask)).body)


async def _got(url: str, ask: Ask) -> Answer:
    answer = await ask("GET", url)
    if answer.status != 200:
        raise Refused(f"answers {answer.status}", Reason.FETCH_FAILED)
    return answer


def _check_same(url: str, answer: Answer, planned: bytes | None) -> None:
    """Raises Refused where the image is not the planned one any more.

    A server that sends a validator with HEAD and none with GET says nothing about it.
    """
    if planned is None or planned[:2] not in {b"b1", b"u1"}:
        return
    if planned.startswith(b"b1"):
        same = planned == content_identity(answer.body)
    else:
        head = b"u1" + sized(url)
        validators = [
            known for known in (_tagged(answer.headers), _dated(answer.headers)) if known is not None
        ]
        comparable = [head + each for each in validators if planned.startswith(head + each[:1])]
        same = not comparable or planned in comparable
    if not same:
        raise Refused("changed since the plan", Reason.SOURCE_CHANGED)


def _validator(headers: Mapping[str, str]) -> bytes | None:
    return _tagged(headers) or _dated(headers)


def _tagged(headers: Mapping[str, str]) -> bytes | None:
    return b"E" + headers["etag"].encode() if headers.get("etag") else None


def _dated(headers: Mapping[str, str]) -> bytes | None:
    modified, length = headers.get("last-modified"), _length(headers)
    return b"M" + sized(modified) + length.encode() if modified and length else None


def _length(headers: Mapping[str, str]) -> str | None:
    """Digits of the whole content's length."""
    total = _TOTAL.fullmatch(headers.get("content-range", ""))
    length = total[1] if total else headers.get("content-length", "")
    return length if length.isascii() and length.isdigit() else None
