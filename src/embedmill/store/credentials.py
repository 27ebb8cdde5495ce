"""What a worker on somebody else's server is given to open a store with.

Whoever is root on a server can read what runs there. So a worker gets keys that end soon and open its
pipeline's folder alone, where the store can make such; keys that last are lent only where the spec says so.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from embedmill.errors import SpecError
from embedmill.store.assumed_role import assume_role, session_policy
from embedmill.store.cloud_config import (
    AZURE_ACCOUNTS,
    AZURE_ENDPOINTS,
    GCS_ENDPOINTS,
    Place,
    s3_settings,
    skips_signature,
)
from embedmill.store.signing import Keys

EXPIRATION = "AWS_CREDENTIAL_EXPIRATION"
"""When the keys end, as AWS's own tools write it."""
PROBE = ".embedmill-probe-"
"""Where a worker shows that the store is fit, before it works on a machine for the first time."""
S3_SETTINGS = (
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_SKIP_SIGNATURE",
    "AWS_CHECKSUM_ALGORITHM",
    "AWS_COPY_IF_NOT_EXISTS",
)
AZURE_SETTINGS = (*AZURE_ACCOUNTS, *AZURE_ENDPOINTS, "AZURE_STORAGE_USE_EMULATOR", "AZURE_SKIP_SIGNATURE")
AZURE_ENDING = ("AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_TOKEN")
AZURE_LASTING = (
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_MASTER_KEY",
    "AZURE_STORAGE_CLIENT_ID",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_STORAGE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_TENANT_ID",
)
GOOGLE_KEY = "GOOGLE_SERVICE_ACCOUNT_KEY"
GOOGLE_KEY_FILES = ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_APPLICATION_CREDENTIALS")


@dataclass(frozen=True)
class Lending:
    """How credentials may be lent: `role` is assumed on S3, for `role_lasts_s`; `keys`: those that last, too.

    `reads` are folders of the store that workers read beside the pipeline's own, such as those of images.
    """

    role: str | None = None
    role_lasts_s: int = 3600
    keys: bool = False
    reads: tuple[str, ...] = ()


def lent_environment(store: str, pipeline: str, lending: Lending) -> dict[str, str]:
    """Environment variables that open the pipeline's folder in a store; none where a store needs none.

    They go through stdin alone: never into an argument vector, a file or a container's settings.

    Raises:
        SpecError: Only keys that last are there, and the spec does not lend them; or no keys are.
        StoreDenied, StoreUnavailable: The role was not given.
    """
    match urlsplit(store).scheme:
        case "s3":
            return _s3(Place.parse(store), pipeline, lending)
        case "gs":
            return _google(lending)
        case "az":
            return _azure(lending)
        case _:
            return {}


def has_expired(now: datetime | None = None) -> bool:
    """Whether the credentials in this process's environment have ended, as far as it says when they do."""
    try:
        end = datetime.fromisoformat(os.environ[EXPIRATION])
    except (KeyError, ValueError):
        return False
    return (now or datetime.now(UTC)) >= (end if end.tzinfo else end.replace(tzinfo=UTC))


def _s3(place: Place, pipeline: str, lending: Lending) -> dict[str, str]:
    settings = s3_settings()
    found = {name: os.environ[name] for name in S3_SETTINGS if os.environ.get(name)}
    found["AWS_REGION"] = settings.region
    if settings.endpoint:
        found["AWS_ENDPOINT_URL_S3"] = settings.endpoint
    if skips_signature():
        return found
    if lending.role is not None:
        policy = session_policy(place, (f"{pipeline}/", PROBE), reads=lending.reads)
        session = assume_role(
            lending.role, policy, settings, name=f"embedmill-{pipeline}", duration_s=lending.role_lasts_s
        )
        return {**found, **_key_variables(session.keys), EXPIRATION: session.expires}
    if settings.keys is None:
        raise SpecError(
            f"store {place.url}: there are no keys here that workers on other servers could be given",
            hint='eval "$(aws configure export-credentials --format env)", or set `work.role`',
        )
    if not settings.keys.session_token:
        _check_lendable(lending, "these keys of S3 last", "set `work.role` to an IAM role for workers")
    expires = os.environ.get(EXPIRATION)
    return {**found, **_key_variables(settings.keys), **({EXPIRATION: expires} if expires else {})}


def _key_variables(keys: Keys) -> dict[str, str]:
    found = {"AWS_ACCESS_KEY_ID": keys.access_key_id, "AWS_SECRET_ACCESS_KEY": keys.secret_access_key}
    return found | ({"AWS_SESSION_TOKEN": keys.session_token} if keys.session_token else {})


def _google(lending: Lending) -> dict[str, str]:
    names = (*GCS_ENDPOINTS, "GOOGLE_SKIP_SIGNATURE")
    found = {name: os.environ[name] for name in names if os.environ.get(name)}
    key = os.environ.get(GOOGLE_KEY, "")
    file = next((os.environ[name] for name in GOOGLE_KEY_FILES if os.environ.get(name)), "")
    if not key and file:
        try:
            key = json.dumps(json.loads(Path(file).read_bytes()))
        except (OSError, ValueError):
            raise SpecError(f"{file}: cannot be read as a Google service account's key") from None
    if key:
        _check_lendable(lending, "the service account's key lasts", "give the servers accounts of their own")
        found[GOOGLE_KEY] = key
    return found


def _azure(lending: Lending) -> dict[str, str]:
    names = (*AZURE_SETTINGS, *AZURE_ENDING)
    found = {name: os.environ[name] for name in names if os.environ.get(name)}
    lasting = {name: os.environ[name] for name in AZURE_LASTING if os.environ.get(name)}
    if lasting and not any(name in found for name in AZURE_ENDING):
        fix = "set AZURE_STORAGE_SAS_KEY to a SAS of the container"
        _check_lendable(lending, "the account's key lasts", fix)
        found |= lasting
    return found


def _check_lendable(lending: Lending, why: str, fix: str) -> None:
    if not lending.keys:
        raise SpecError(
            f"{why}, and would be readable by whoever is root on a borrowed server",
            hint=f"{fix}; or set `work.lend_keys: true`",
        )
