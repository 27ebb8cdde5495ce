"""From a URL and the environment to obstore's client: what names a place, and what opens it.

Secrets come from the environment, or from the files that AWS's own tools read; never from a URL, so that
they never come to specs, plans, logs or a worker's arguments. obstore itself reads `AWS_*`, `GOOGLE_*` and
`AZURE_*`; added here are the AWS files, the refusal of secrets in URLs, and plain http for endpoints that
were configured as such.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from embedmill.errors import SpecError, StoreDenied, StoreError
from embedmill.extras import optional
from embedmill.store.aws_files import read_profile
from embedmill.store.base import checked_key
from embedmill.store.signing import Keys

if TYPE_CHECKING:
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3Config, S3Store

    Client: TypeAlias = S3Store | GCSStore | AzureStore

SERVICES = {"s3": "S3", "gs": "GCS", "az": "Azure"}
S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
GCS_ENDPOINTS = ("GOOGLE_BASE_URL",)
AZURE_ENDPOINTS = ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
AZURE_ACCOUNTS = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
OTHER_AWS_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
)
"""Where one is set, obstore finds credentials (or is told to use none) without the AWS files."""
CONNECT_TIMEOUT_S = 10.0
WHOLE_TIMEOUTS = 5
"""A request may take so many times the time without an answer, as long as bytes keep coming."""


@dataclass(frozen=True)
class Place:
    """What `s3://bucket/prefix`, `gs://…` or `az://container/prefix` names."""

    scheme: str
    bucket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Place:
        """Read a URL.

        Raises:
            SpecError: It has no bucket, has an odd prefix, or carries user info or a query; what it
                carries is not repeated.
        """
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise SpecError(
                f"store {parts.scheme}://{parts.netloc.rpartition('@')[2]}: "
                "a store's URL carries no user, password or query",
                hint="credentials come from the environment: see docs/stores.md",
            )
        prefix = parts.path.strip("/")
        if not parts.netloc or ":" in parts.netloc:
            raise SpecError(
                f"store {url!r}: names no bucket",
                hint=f"write {parts.scheme}://bucket/prefix; the endpoint comes from the environment",
            )
        try:
            return cls(parts.scheme, parts.netloc, checked_key(prefix) if prefix else "")
        except StoreError as error:
            raise SpecError(f"store {url!r}: {error.message}", hint=error.hint) from None

    @property
    def service(self) -> str:
        """`S3`, `GCS` or `Azure`."""
        return SERVICES[self.scheme]

    @property
    def url(self) -> str:
        """The same place, however it was written."""
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


def connect(place: Place, timeout_s: float) -> tuple[Client, str]:
    """Obstore's client for a place, which tries every request once; and its endpoint, for messages.

    `timeout_s` is how long it waits for an answer's next bytes.

    Raises:
        SpecError: The environment names an endpoint or an AWS profile that cannot be used.
        MissingExtra: obstore is not installed.
    """
    with optional("obstore", "obstore", extra="cloud"):
        from obstore.exceptions import BaseError
    try:
        return {"s3": _s3, "gs": _gcs, "az": _azure}[place.scheme](place, timeout_s)
    except (BaseError, ValueError):  # it quotes the value, which may be a secret
        prefix = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}[place.scheme]
        raise SpecError(
            f"store {place.url}: an option in the environment cannot be read",
            hint=f"check the variables that begin with {prefix}",
        ) from None


def _s3(place: Place, timeout_s: float) -> tuple[Client, str]:
    from obstore.store import S3Store

    config, endpoint = _s3_config()
    options = _client_options(endpoint, timeout_s)
    store = S3Store(place.bucket, config=config, client_options=options, retry_config=_once())
    return store, endpoint or f"S3 in {config.get('region') or 'us-east-1'}"


@dataclass(frozen=True)
class S3Access:
    """How requests of our own reach a bucket; `keys` are None where they are not to be signed."""

    base: str
    region: str
    endpoint: str
    keys: Keys | None


def s3_access(place: Place) -> S3Access:
    """The same address and credentials as obstore's client for this place has.

    Raises:
        SpecError: The environment names an endpoint or an AWS profile that cannot be used.
        StoreDenied: The credentials come from a service that only obstore asks.
    """
    config, endpoint = _s3_config()
    region = config.get("region") or "us-east-1"
    virtual = _is_set("AWS_VIRTUAL_HOSTED_STYLE_REQUEST")  # an endpoint then has the bucket in it
    if endpoint:
        base = endpoint if virtual else f"{endpoint}/{place.bucket}"
    elif virtual:
        base = f"https://{place.bucket}.s3.{region}.amazonaws.com"
    else:
        base = f"https://s3.{region}.amazonaws.com/{place.bucket}"
    return S3Access(base, region, endpoint or f"S3 in {region}", _s3_keys(place, config))


@dataclass(frozen=True)
class S3Settings:
    """What the environment and the AWS files say of S3; `keys` are None where none are static."""

    region: str
    endpoint: str
    keys: Keys | None


def s3_settings() -> S3Settings:
    """What obstore's client would be made of, for others who have to be told; `endpoint` "" is AWS itself.

    Raises:
        SpecError: The environment names an endpoint or an AWS profile that cannot be used.
    """
    config, endpoint = _s3_config()
    return S3Settings(config.get("region") or "us-east-1", endpoint, _static_keys(config))


def _s3_keys(place: Place, config: S3Config) -> Keys | None:
    if _is_set("AWS_SKIP_SIGNATURE"):
        return None
    keys = _static_keys(config)
    if keys is None:
        raise StoreDenied(
            f"unfinished uploads in {place.url}: only static keys can sign the requests that find them",
            hint="set a lifecycle rule that aborts them, or export keys: see docs/stores.md",
        )
    return keys


def _static_keys(config: S3Config) -> Keys | None:
    # The profile's keys are both there, or neither.
    values = (
        config.get("access_key_id") or os.environ.get("AWS_ACCESS_KEY_ID"),
        config.get("secret_access_key") or os.environ.get("AWS_SECRET_ACCESS_KEY"),
    )
    tokens = (os.environ.get(name) for name in ("AWS_SESSION_TOKEN", "AWS_TOKEN"))
    token = config.get("session_token") or next(filter(None, tokens), "")
    return Keys(values[0] or "", values[1] or "", token) if all(values) else None


def skips_signature() -> bool:
    """Whether S3 is asked without credentials."""
    return _is_set("AWS_SKIP_SIGNATURE")


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() in {"1", "true", "on", "yes", "y"}


def _gcs(place: Place, timeout_s: float) -> tuple[Client, str]:
    from obstore.store import GCSStore

    endpoint = _endpoint(GCS_ENDPOINTS)
    options = _client_options(endpoint, timeout_s)
    return GCSStore(place.bucket, client_options=options, retry_config=_once()), endpoint or "Google"


def _azure(place: Place, timeout_s: float) -> tuple[Client, str]:
    from obstore.store import AzureStore

    account = next((os.environ[name] for name in AZURE_ACCOUNTS if os.environ.get(name)), "")
    endpoint = _endpoint(AZURE_ENDPOINTS)
    options = _client_options(endpoint, timeout_s)
    if os.environ.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in {"1", "true"}:
        options["allow_http"] = True
    elif not account:
        raise SpecError(f"store {place.url}: no storage account", hint=f"set {AZURE_ACCOUNTS[0]}")
    store = AzureStore(place.bucket, client_options=options, retry_config=_once())
    return store, endpoint or f"Azure account {account or 'of the emulator'}"


def _once() -> RetryConfig:
    """No retries: a request that is repeated unseen turns its own success into a refusal."""
    return {"max_retries": 0, "retry_timeout": timedelta(0)}


def _s3_config() -> tuple[S3Config, str]:
    """Obstore's options for S3, and the endpoint; "" is AWS itself."""
    config: S3Config = {"conditional_put": "etag", "disable_bulk_delete": True}
    if not os.environ.get("AWS_COPY_IF_NOT_EXISTS"):
        config["copy_if_not_exists"] = "multipart"
    if not os.environ.get("AWS_CHECKSUM_ALGORITHM"):
        config["checksum_algorithm"] = "SHA256"
    profile = read_profile(needs_keys=not any(os.environ.get(name) for name in OTHER_AWS_CREDENTIALS))
    if profile.access_key_id and profile.secret_access_key:
        config["access_key_id"] = profile.access_key_id
        config["secret_access_key"] = profile.secret_access_key
        if profile.session_token:
            config["session_token"] = profile.session_token
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or profile.region
    if region:
        config["region"] = region
    endpoint = _endpoint(S3_ENDPOINTS, profile.endpoint_url)
    if endpoint:
        config["endpoint"] = endpoint
    return config, endpoint


def _endpoint(names: tuple[str, ...], otherwise: str = "") -> str:
    """The first of these variables that is set, as an endpoint that may be used and shown."""
    name, value = next(
        ((name, os.environ[name]) for name in names if os.environ.get(name)), ("endpoint_url", otherwise)
    )
    if not value:
        return ""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or parts.query:
        raise SpecError(
            f"{name}: is not an endpoint", hint="write https://host or http://host:port, without a user"
        )
    return value.rstrip("/")


def port_of(url: str) -> int:
    """Where a store in the cloud listens: at the environment's endpoint, if it names one, else as https does.

    Raises:
        SpecError: The environment names an endpoint that cannot be used.
    """
    names = {"s3": S3_ENDPOINTS, "gs": GCS_ENDPOINTS, "az": AZURE_ENDPOINTS}[Place.parse(url).scheme]
    profile = read_profile(needs_keys=False).endpoint_url if names is S3_ENDPOINTS else ""
    parts = urlsplit(_endpoint(names, profile))
    return parts.port or (80 if parts.scheme == "http" else 443)


def _client_options(endpoint: str, timeout_s: float) -> ClientConfig:
    return {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=min(CONNECT_TIMEOUT_S, timeout_s)),
        "read_timeout": timedelta(seconds=timeout_s),
        "timeout": timedelta(seconds=timeout_s * WHOLE_TIMEOUTS),
    }
