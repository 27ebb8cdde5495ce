"""obstore's errors as ours: by class, HTTP status and the service's error code.

obstore's texts hold URLs, headers and answers' bodies, which may quote access keys or signatures. Only the
status and the code are taken from them; all other words are our own, on one line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from embedmill.errors import (
    CredentialsExpired,
    ObjectExists,
    ObjectMissing,
    PreconditionFailed,
    StoreAbsent,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
)

MISSING_BUCKET = {"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"}
TAKEN = {"BlobAlreadyExists"}
"""What 409 means on Azure after a conditional create. On S3 and GCS, 409 settles nothing."""
DENIED_HINTS = {
    "SignatureDoesNotMatch": "the secret key does not fit the access key",
    "InvalidAccessKeyId": "the access key is not known there",
    "RequestTimeTooSkewed": "set this machine's clock",
    "ExpiredToken": "the credentials have expired: renew them",
    "InvalidToken": "the session token is not valid: renew it",
    "TokenRefreshRequired": "the credentials have expired: renew them",
    "AccessDenied": "the identity may not do this: it needs to read, write, list and delete there",
    "AuthenticationFailed": "the account's key, or this machine's clock, is wrong",
}
EXPIRED = {"ExpiredToken", "TokenRefreshRequired"}
DAMAGED = {"BadDigest", "XAmzContentSHA256Mismatch", "InvalidDigest", "Md5Mismatch", "Crc64Mismatch"}
FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
"""Whatever the status: Ceph says of its quotas 403, as of keys that may not write, and MinIO 400."""
TOO_LARGE = {"EntityTooLarge", "RequestBodyTooLarge"}
"""Of S3 and of Azure: one object is over a limit of the service, so that waiting helps nothing."""
PASSING = {"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "OperationAborted"}
"""Codes of passing trouble that may come with any status, even 200 or 400."""
PASSING_STATUS = {408, 409, 425, 429}
INSTANCE_METADATA = ("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "metadata.google.internal")

_CONFIGURATION = frozenset({"UnknownConfigurationKeyError", "InvalidPathError"})
_BY_STATUS = frozenset({"GenericError", "JoinError", "NotModifiedError", "BaseError"})
KINDS = (
    {
        "AlreadyExistsError",
        "FileNotFoundError",
        "NotFoundError",
        "NotSupportedError",
        "PermissionDeniedError",
        "PreconditionError",
        "UnauthenticatedError",
    }
    | _CONFIGURATION
    | _BY_STATUS
)
"""Every class of obstore's that is told apart here; a test fails when obstore has another one."""


@dataclass(frozen=True)
class Failure:
    """What one of obstore's errors says, without its texts."""

    kind: str
    status: int | None
    code: str
    network: str
    asked_for_credentials: bool
    wrong_region: bool

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Read an error."""
        text, _, debug = str(error).partition("\n\nDebug source:")
        status = re.search(r"status code: (\d{3})", text) or re.search(r"\bstatus: (\d{3})\b", debug)
        code = re.search(r"<Code>(\w{1,60})</Code>", text) or re.search(r'"code": ?"(\w{1,60})"', text)
        network = re.search(r"\bHttpError \{\s*kind: (\w+)", debug)
        return cls(
            kind=type(error).__name__,
            status=int(status[1]) if status else None,
            code=code[1] if code else "",
            network=network[1] if network else "",
            asked_for_credentials=any(host in text for host in INSTANCE_METADATA),
            wrong_region="redirect without LOCATION" in text,
        )

    @property
    def said(self) -> str:
        """Status and code, such as `503 SlowDown`."""
        return f"{self.status or ''} {self.code}".strip() or self.network.lower() or self.kind


def store_error(error: Exception, key: str, *, service: str, bucket: str, endpoint: str) -> StoreError:
    """Our error for one of obstore's; `key` is what the caller asked for.

    `ObjectExists` only where a conditional create was surely refused; whatever may have landed is
    `StoreUnavailable`.
    """
    return failure_error(Failure.of(error), key, service=service, bucket=bucket, endpoint=endpoint)


def failure_error(failure: Failure, key: str, *, service: str, bucket: str, endpoint: str) -> StoreError:
    """Our error for a failure, however it was learned."""
    if failure.code in MISSING_BUCKET:
        return missing_bucket(bucket, endpoint)
    if failure.status == 507 or failure.code in FULL:
        hint = "free some space there or raise the quota, then run again"
        return StoreFull(f"{key}: no space left at {endpoint} ({failure.said})", hint=hint)
    if failure.code in TOO_LARGE:
        return StoreError(
            f"{key}: {endpoint} takes no object of this size ({failure.said})",
            hint="raise the limit on objects there, or use another store; trying again does not help",
        )
    denied = _denied(failure, key, endpoint)
    if denied is not None:
        return denied
    match failure.kind:
        case "FileNotFoundError" | "NotFoundError":
            return ObjectMissing(f"{key}: no such object in {bucket}")
        case "AlreadyExistsError" if failure.status == 412 or (service == "Azure" and failure.code in TAKEN):
            return ObjectExists(f"{key}: exists already")
        case "PreconditionError":
            return PreconditionFailed(f"{key}: changed since it was read")
        case "NotSupportedError":
            return StoreError(f"{key}: {endpoint} or its settings do not support this")
        case kind if kind in _CONFIGURATION:
            return StoreError(f"{key}: was refused by obstore", hint="check the store's settings")
    return _by_status(failure, key, endpoint)


def missing_bucket(bucket: str, endpoint: str) -> StoreAbsent:
    """A bucket that is not there: not a missing object, since no object could be written either."""
    return StoreAbsent(
        f"bucket {bucket!r} does not exist at {endpoint}",
        hint="create it, or correct the store's URL or the endpoint in the environment",
    )


def _denied(failure: Failure, key: str, endpoint: str) -> StoreDenied | None:
    if failure.asked_for_credentials:
        return StoreDenied(
            f"{key}: no credentials for {endpoint}: the environment has none, nor has this machine's service",
            hint="set them in the environment: see docs/stores.md",
        )
    refused = failure.kind in {"PermissionDeniedError", "UnauthenticatedError"}
    if refused or ((failure.status or 0) < 500 and failure.code in DENIED_HINTS):
        hint = DENIED_HINTS.get(failure.code, "check the credentials and what they may do there")
        kind = CredentialsExpired if failure.code in EXPIRED else StoreDenied
        return kind(f"{key}: {endpoint} refused access ({failure.said})", hint=hint)
    return None


def _by_status(failure: Failure, key: str, endpoint: str) -> StoreError:
    status = failure.status
    if failure.wrong_region:
        return StoreError(f"{key}: the bucket is in another region than {endpoint}", hint="set AWS_REGION")
    if failure.code in DAMAGED:
        return StoreUnavailable(f"{key}: was damaged on its way to {endpoint} ({failure.said})")
    if failure.code in PASSING or status is None or status >= 500 or status in PASSING_STATUS:
        return _unavailable(failure, key, endpoint)
    return StoreError(f"{key}: {endpoint} answered {failure.said}")


def _unavailable(failure: Failure, key: str, endpoint: str) -> StoreUnavailable:
    why = {
        "Connect": "cannot be reached",
        "Timeout": "did not answer in time",
        "Request": "closed the connection",
        "Interrupted": "closed the connection",
        "Decode": "gave an answer that broke off",
    }.get(failure.network, f"could not answer ({failure.said})")
    unreachable = failure.network == "Connect"
    hint = "check the endpoint in the environment" if unreachable else "try again"
    return StoreUnavailable(f"{key}: {endpoint} {why}", hint=hint, unreachable=unreachable)
