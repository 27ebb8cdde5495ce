"""Requests to S3 that obstore does not have: signed here, sent once, without a body.

Proxies come from the environment, as for obstore. A redirect is not followed: its target would need another
signature.
"""

from __future__ import annotations

import http.client
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.parse import urlsplit
from xml.etree import ElementTree

from embedmill.errors import StoreError
from embedmill.store.cloud_config import s3_access
from embedmill.store.cloud_errors import Failure, failure_error
from embedmill.store.signing import NO_BODY, Request, signed

if TYPE_CHECKING:
    from embedmill.store.cloud_config import Place

ANSWER_LIMIT = 16 << 20
"""More bytes no page of 1,000 uploads or parts has, with keys of 1,024 characters each."""
KINDS = {401: "UnauthenticatedError", 403: "PermissionDeniedError"}
REDIRECTS = {301, 302, 307, 308}


@dataclass(frozen=True)
class Answer:
    """What came back; `code` is the service's word for an error, "" if it gave none."""

    status: int
    code: str
    body: str
    date_header: str

    @property
    def said(self) -> str:
        """Status and code, such as `403 AccessDenied`."""
        return f"{self.status} {self.code}".strip()

    def document(self) -> ElementTree.Element:
        """The body as XML.

        Raises:
            StoreError: It is none, or has a document type, in which entities could be bombs.
        """
        try:
            if "<!DOCTYPE" not in self.body:
                return ElementTree.fromstring(self.body)  # noqa: S314 without entities, by the above
        except ElementTree.ParseError:
            pass
        raise StoreError("unfinished uploads: the service gave an answer that is not its XML")

    def date(self) -> datetime:
        """The service's clock.

        Raises:
            ValueError: It told no time.
        """
        told = parsedate_to_datetime(self.date_header)
        return told if told.tzinfo else told.replace(tzinfo=UTC)


def plain_opener() -> urllib.request.OpenerDirector:
    """What sends one request, without handlers of redirects and errors."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
    ):
        opener.add_handler(handler)
    return opener


class S3Requests:
    """Asks a bucket, as the environment says."""

    def __init__(self, place: Place, timeout_s: float) -> None:
        """Send nothing yet.

        Raises:
            SpecError: The environment names an endpoint or a profile that cannot be used.
            StoreDenied: Its credentials are none that requests can be signed with here.
        """
        self._place, self._timeout_s = place, timeout_s
        self._access = s3_access(place)
        self._opener = plain_opener()

    def ask(self, method: str, path: str, query: Mapping[str, str], about: str) -> Answer:
        """The bucket's answer, whatever it is; `path` is an object's name in the bucket, "" for the bucket.

        Raises:
            StoreUnavailable: There was none.
        """
        base = urlsplit(self._access.base)
        below = f"{base.path}/{path}" if path else base.path or "/"
        request = Request(method, base.netloc, below, tuple(query.items()))
        headers = {"x-amz-content-sha256": NO_BODY}
        keys = self._access.keys
        if keys is not None:
            now = datetime.now(UTC)
            headers = signed(request, keys, now, region=self._access.region, headers=headers)
        url = f"{base.scheme}://{base.netloc}{request.target}"
        prepared = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310 http(s), by _endpoint
        try:
            with self._opener.open(prepared, timeout=self._timeout_s) as response:
                data = response.read(ANSWER_LIMIT)
                if response.length:
                    raise http.client.IncompleteRead(data)
                body = data.decode()
                return Answer(response.status, _code(body), body, response.headers.get("Date", ""))
        except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
            failure = Failure("GenericError", None, "", _network(error), False, False)
            raise self._failure_error(failure, about) from None

    def error(self, answer: Answer, about: str) -> StoreError:
        """The error that an answer is."""
        redirect = answer.status in REDIRECTS
        kind = KINDS.get(answer.status, "GenericError")
        return self._failure_error(Failure(kind, answer.status, answer.code, "", False, redirect), about)

    def _failure_error(self, failure: Failure, about: str) -> StoreError:
        place, endpoint = self._place, self._access.endpoint
        return failure_error(failure, about, service=place.service, bucket=place.bucket, endpoint=endpoint)


def _code(body: str) -> str:
    found = re.search(r"<Code>(\w{1,60})</Code>", body)
    return found[1] if found else ""


def _network(error: Exception) -> str:
    """The word that obstore has for what became of a request."""
    if isinstance(error, URLError):  # raised while connecting or sending
        return "Timeout" if isinstance(error.reason, TimeoutError) else "Connect"
    if isinstance(error, TimeoutError):
        return "Timeout"
    return "Decode" if isinstance(error, UnicodeDecodeError) else "Interrupted"
