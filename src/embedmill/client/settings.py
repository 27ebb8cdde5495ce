"""What both clients are told: where to ask, and what to expect."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import urlsplit

from embedmill.client.replies import check_source, source_of
from embedmill.client.values import Call, Reply
from embedmill.errors import SpecError

OK = 200


@dataclass(frozen=True)
class Settings:
    """The address, without a slash at its end, and all that a client was told beside it."""

    url: str
    key: str | None
    timeout_s: float
    retry_for_s: float
    expect_release: str | int | None
    expect_model: str | None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SpecError(f"{self.url!r} is no address of a server", hint="write http://host:8080")

    def headers(self, call: Call) -> dict[str, str]:
        """The headers of a request."""
        found = {"user-agent": f"embedmill/{version('embedmill')}", "accept": "application/json"}
        if self.key is not None:
            found["authorization"] = f"Bearer {self.key}"
        return found | ({"content-type": "application/json"} if call.body is not None else {})

    def check(self, reply: Reply) -> Reply:
        """A reply, if it is from where it is expected to be.

        Raises:
            ReleaseMismatch: It is from another release or model.
        """
        if reply.status == OK and (self.expect_release, self.expect_model) != (None, None):
            check_source(source_of(reply), self.expect_release, self.expect_model)
        return reply
