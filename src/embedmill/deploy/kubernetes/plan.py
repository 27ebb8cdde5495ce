"""`ServingPlan`: all that the manifests of one release are made of."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from embedmill.errors import ReleaseMissing, SpecError
from embedmill.store.cloud_config import port_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.release.source import Source
    from embedmill.spec.documents import Content, FileEntry

LABEL = re.compile(r"[a-z]([a-z0-9-]{0,40}[a-z0-9])?")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9._:/-]*(:[A-Za-z0-9_][A-Za-z0-9._-]*|@sha256:[0-9a-f]{64})")
REMOTE = re.compile(r"(s3|gs|az)://")
MIB = 1 << 20
GRACE_S = 30
"""How long a server finishes what it has, after it has drained: `timeout_graceful_shutdown` of `serve`."""


@dataclass(frozen=True)
class Sizes:
    """Bytes of a release, and of what a server of it needs."""

    release: int
    model: int
    vectors: int
    index: int
    items: int

    @classmethod
    def of(cls, content: Content, release_bytes: int) -> Sizes:
        """Those of a release."""
        parts = [entry for segment in content.segments for entry in segment.parts]
        indexes = [segment.index for segment in content.segments if segment.index is not None]
        return cls(release_bytes, _sum(content.model), _sum(parts), _sum(indexes), _sum(content.items))

    @property
    def disk(self) -> int:
        """MiB of the volume that has the release: some more than its bytes, for blocks and the journal."""
        return rounded_up(1.1 * self.release + 64 * MIB)

    @property
    def memory(self) -> int:
        """MiB of a server: Python and libraries, the model thrice (read, loaded, arena), what is searched."""
        return rounded_up(512 * MIB + 3 * self.model + self.vectors + self.index + 2 * self.items)

    @property
    def start_s(self) -> int:
        """Seconds that a start may take: every byte is hashed, the model loaded, goldens embedded."""
        return 120 + math.ceil(self.release / (20 * MIB))


@dataclass(frozen=True)
class Settings:
    """What whoever deploys decides: `cpus` of a server, which is also its threads; how long it drains.

    Secrets are named, never read: `store_secret` has the variables that open the store (empty: the cluster
    gives pods an identity), `keys_secret` has the API keys under `keys`. `scrapers` are namespaces from
    which servers may be asked, beside the own one.
    """

    image: str
    name: str = ""
    namespace: str = ""
    replicas: int = 3
    max_replicas: int = 6
    cpus: int = 2
    drain_s: int = 15
    store_secret: str = "embedmill-store"  # noqa: S105 - its name
    keys_secret: str = "embedmill-keys"  # noqa: S105 - its name
    store_port: int = 443
    scrapers: Sequence[str] = field(default=())


@dataclass(frozen=True)
class ServingPlan:
    """One release, pinned by its number, and how it is served."""

    settings: Settings
    name: str
    pipeline_url: str
    pipeline: str
    release: str
    number: int
    manifest_digest: str
    package_digest: str
    sizes: Sizes

    @property
    def numbered(self) -> str:
        """A name of this release's own, for what stands beside another release."""
        return f"{self.name}-r{self.number}"

    @property
    def grace_s(self) -> int:
        """Seconds from SIGTERM until a server is killed: it drains, finishes, and has some to spare."""
        return self.settings.drain_s + GRACE_S + 5


def plan_serving(source: Source, settings: Settings) -> ServingPlan:
    """What is to be deployed.

    Raises:
        SpecError: The store cannot be reached from elsewhere, or a name or the image is none.
        ReleaseIncompatible: The release is empty.
        ReleaseMissing: It has no number.
    """
    source.check_not_empty()
    if source.home is None or source.number is None:
        raise ReleaseMissing(
            f"{source.url}: is in no log, so it has no number to pin",
            hint="`embedmill release copy --publish` publishes it in another store",
        )
    if not REMOTE.match(source.store.url):
        raise SpecError(
            f"{source.store.url}: pods cannot fetch from there",
            hint="`embedmill release copy --to s3://… --publish` puts a release where they can",
        )
    pipeline = source.content.pipeline.name
    return ServingPlan(
        settings=settings,
        name=_checked_name(settings.name or pipeline.replace("_", "-").replace(".", "-")),
        pipeline_url=_checked(settings, source.home.url),
        pipeline=pipeline,
        release=source.release,
        number=source.number,
        manifest_digest=source.manifest.digest,
        package_digest=source.content.package_digest,
        sizes=Sizes.of(source.content, source.size_bytes),
    )


def store_port_of(url: str) -> int:
    """The port that servers need a way out to, as far as this machine's environment knows."""
    return port_of(url) if REMOTE.match(url) else Settings.store_port


def rounded_up(size_bytes: float) -> int:
    """MiB, in steps of 64."""
    return math.ceil(size_bytes / (64 * MIB)) * 64


def _checked_name(name: str) -> str:
    if not LABEL.fullmatch(name):
        raise SpecError(
            f"{name!r} is not a name for Kubernetes",
            hint="--name: lower-case letters, digits and `-`, at most 42, a letter first",
        )
    return name


def _checked(settings: Settings, url: str) -> str:
    """The URL, if all else is as it must be."""
    digest = settings.image.partition("@")[2]
    if digest and not DIGEST.fullmatch(digest):
        raise SpecError(
            f"image {settings.image!r}: {digest!r} is no digest",
            hint="it is `sha256:` and 64 digits of 0-9 and a-f",
        )
    if not IMAGE.fullmatch(settings.image) or settings.image.endswith(":latest"):
        raise SpecError(
            f"image {settings.image!r}: names no version", hint="give a tag, or better name@sha256:…"
        )
    if settings.max_replicas < settings.replicas:
        raise SpecError(
            f"--max-replicas {settings.max_replicas} is below --replicas {settings.replicas}",
            hint="allow as many at least",
        )
    return url


def _sum(entries: Sequence[FileEntry]) -> int:
    return sum(entry.size_bytes for entry in entries)
