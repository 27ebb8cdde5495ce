"""Keys of AWS that last an hour and open one prefix: AssumeRole of the Security Token Service.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html: what such keys may do is what the
role may do *and* what the session's policy says.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from embedmill.errors import SpecError, StoreDenied, StoreUnavailable
from embedmill.store.s3_requests import plain_opener
from embedmill.store.signing import Keys, Request, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.store.cloud_config import Place, S3Settings

ENDPOINTS = ("AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
"""Where STS is asked: the first that is set; AWS's own of the region otherwise."""
FORM = "application/x-www-form-urlencoded; charset=utf-8"
ANSWER_LIMIT = 1 << 20
TIMEOUT_S = 30.0
OBJECT_ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")


@dataclass(frozen=True)
class Session:
    """Keys with their end, as STS writes it: `2026-11-28T05:00:00Z`. Shown are only when they end."""

    keys: Keys = field(repr=False)
    expires: str


def session_policy(place: Place, folders: Sequence[str], *, reads: Sequence[str] = ()) -> str:
    """A policy for keys that read and write below these folders of a store, and read below others.

    `folders` and `reads` are relative to the store; the last may end in the middle of a name.
    """
    top = f"{place.prefix}/" if place.prefix else ""
    bucket = f"arn:aws:s3:::{place.bucket}"
    statements: list[dict[str, object]] = [
        _allow(OBJECT_ACTIONS, [f"{bucket}/{top}{folder}*" for folder in folders]),
        _allow(("s3:ListBucket",), [bucket], [f"{top}{folder}*" for folder in (*folders, *reads)]),
    ]
    if reads:
        statements.append(_allow(("s3:GetObject",), [f"{bucket}/{top}{folder}*" for folder in reads]))
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))


def _allow(
    actions: Sequence[str], resources: Sequence[str], prefixes: Sequence[str] = ()
) -> dict[str, object]:
    found: dict[str, object] = {"Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    if prefixes:
        found["Condition"] = {"StringLike": {"s3:prefix": list(prefixes)}}
    return found


def assume_role(role: str, policy: str, settings: S3Settings, *, name: str, duration_s: int) -> Session:
    """Ask for keys.

    Raises:
        SpecError: There are no keys to ask with, or the endpoint's address cannot be used.
        StoreDenied: The service refused; its word says why.
        StoreUnavailable: There was no answer.
    """
    if settings.keys is None:
        raise SpecError(
            f"role {role}: no static keys to ask for it with",
            hint='eval "$(aws configure export-credentials --format env)"',
        )
    form = {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": role,
        "RoleSessionName": re.sub(r"[^\w+=,.@-]", "-", name)[:64],
        "DurationSeconds": str(duration_s),
        "Policy": policy,
    }
    body = urlencode(form).encode()
    status, said = _post(_endpoint(settings.region), body, settings.keys, settings.region)
    if status != http.client.OK:
        raise _refused(role, status, said)
    return _session(said)


def _endpoint(region: str) -> str:
    name, value = next(((each, os.environ[each]) for each in ENDPOINTS if os.environ.get(each)), ("", ""))
    parts = urlsplit(value or f"https://sts.{region}.amazonaws.com")
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise SpecError(f"{name}: is not an endpoint", hint="write https://host or http://host:port")
    return f"{parts.scheme}://{parts.netloc}"


def _post(endpoint: str, body: bytes, keys: Keys, region: str) -> tuple[int, str]:
    host = urlsplit(endpoint).netloc
    headers = signed(
        Request("POST", host, "/"),
        keys,
        datetime.now(UTC),
        region=region,
        headers={"content-type": FORM},
        service="sts",
        body=body,
    )
    request = urllib.request.Request(f"{endpoint}/", data=body, headers=headers, method="POST")  # noqa: S310 http(s), by _endpoint
    try:
        with plain_opener().open(request, timeout=TIMEOUT_S) as response:
            return response.status, response.read(ANSWER_LIMIT).decode()
    except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
        why = getattr(error, "reason", None) or type(error).__name__
        raise StoreUnavailable(
            f"{host}: no answer of the token service ({why})", hint="try again, or check AWS_ENDPOINT_URL_STS"
        ) from None


def _refused(role: str, status: int, body: str) -> StoreDenied | StoreUnavailable:
    code = re.search(r"<Code>(\w{1,60})</Code>", body)
    said = f"{status} {code[1] if code else ''}".strip()
    if status >= http.client.INTERNAL_SERVER_ERROR:
        return StoreUnavailable(f"role {role}: the token service could not answer ({said})", hint="try again")
    return StoreDenied(
        f"role {role}: keys for workers were refused ({said})",
        hint="its trust policy must let you assume it, for at least `role_lasts_s` seconds",
    )


def _session(body: str) -> Session:
    """What stands in the answer; only its own four values are looked for, so that no parser can be bombed."""
    names = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
    found = [re.search(rf"<{name}>([^<>&]{{1,8192}})</{name}>", body) for name in names]
    values = [match[1].strip() for match in found if match]
    if len(values) != len(names):
        raise StoreUnavailable("the token service gave an answer that is not its XML", hint="try again")
    return Session(Keys(*values[:3]), values[3])
