"""Whether a store does what releases rest on: a conformance probe, run before anything is trusted to it.

Stores that speak one protocol differ where it matters: some ignore conditions, some let two creators win,
some show old bytes. What depends on timing is raced, over every door of the store that is given. The probe
works below a random prefix of its own and removes all that it wrote, also when it is interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from embedmill.errors import (
    SpecError,
    StoreAbsent,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnfit,
)
from embedmill.spec.document import now, sha256
from embedmill.spec.reports import ProbeFinding, ProbeReport
from embedmill.store import cache_folder
from embedmill.store.checks import CHECKS, Broken, Ground
from embedmill.store.cloud_config import AZURE_ACCOUNTS, GCS_ENDPOINTS
from embedmill.store.retrying import RetryingStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from embedmill.store.base import Store

QUICK = ("create-once", "create-race", "if-match", "if-match-missing", "read-after-write")
QUICK_RACERS = 8
ELSEWHERE = {*GCS_ENDPOINTS, *AZURE_ACCOUNTS, "AZURE_STORAGE_USE_EMULATOR", "AWS_PROFILE", "AWS_CONFIG_FILE"}
"""Variables that make another store of a URL, beside those that have ENDPOINT in their names."""
STAMP = "fit/1"
"""Renewed when the quick checks ask for more: then every store is asked again."""


def probe(stores: Sequence[Store]) -> ProbeReport:
    """Ask one store everything, through each of its doors; fewer than 400 requests with one door.

    A store that is busy is asked again (`RetryingStore`): a missing answer is no finding.

    Raises:
        SpecError: No store is given.
        StoreAbsent: There is no such bucket or folder.
        StoreUnavailable: There was no answer for minutes.
        StoreDenied: The store may not be written.
        StoreFull: It has no space left.
    """
    if not stores:
        raise SpecError("no store to probe", hint="name at least one")
    return _probe(Ground(_patient(stores)), CHECKS)


def require_fit(store: Store) -> None:
    """Refuse an unfit store: before the first run on it from this machine, by a few dozen requests.

    That it was fit is noted in the cache folder, for its URL and the environment's endpoint; `forget_fit`
    removes the note.

    Raises:
        StoreUnfit: It failed a check; the message names all that it failed.
        StoreAbsent, StoreUnavailable, StoreDenied, StoreFull: As `probe`.
    """
    if is_known_fit(store):
        return
    raise_unfit(_probe(Ground(_patient([store]), racers=QUICK_RACERS, rounds=1), QUICK))
    stamp = _stamp_file(store)
    with contextlib.suppress(OSError):  # without a note it is asked again, which does no harm
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(json.dumps({"schema": STAMP, "url": store.url, "created": now()}))


def is_known_fit(store: Store) -> bool:
    """Whether it was found fit before, from this machine and with these endpoints."""
    try:
        return bool(json.loads(_stamp_file(store).read_bytes())["schema"] == STAMP)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def forget_fit(store: Store) -> None:
    """Let the next run ask again whether the store is fit."""
    with contextlib.suppress(OSError):
        _stamp_file(store).unlink(missing_ok=True)


def raise_unfit(report: ProbeReport) -> None:
    """Make an error of a report that has one.

    Raises:
        StoreUnfit: A check failed.
    """
    failed = [f"{each.check}: {each.found}" for each in report.findings if not each.passed]
    if failed:
        raise StoreUnfit(
            f"{', '.join(report.urls)}: not fit for releases: {'; '.join(failed)}",
            hint="use another store, or another version of it; there is no way around",
        )


def _patient(stores: Sequence[Store]) -> tuple[Store, ...]:
    return tuple(each if isinstance(each, RetryingStore) else RetryingStore(each) for each in stores)


def _at_once(stores: Sequence[Store]) -> tuple[Store, ...]:
    return tuple(each.inner if isinstance(each, RetryingStore) else each for each in stores)


def _probe(ground: Ground, checks: Collection[str]) -> ProbeReport:
    started_s, cleaned = time.monotonic(), ground
    try:
        with _named(ground):
            findings = tuple(_finding(ground, check) for check in checks)
    except StoreUnavailable:  # it was waited for already: whoever removes must not wait as long again
        cleaned = replace(ground, doors=_at_once(ground.doors))
        raise
    finally:
        cleaned.clear()
    return ProbeReport(
        urls=tuple(door.url for door in ground.doors),
        fit=all(each.passed for each in findings),
        findings=findings,
        seconds=round(time.monotonic() - started_s, 3),
    )


@contextlib.contextmanager
def _named(ground: Ground) -> Iterator[None]:
    """Errors begin with the store's URL, not with a key of ours that nobody knows."""
    try:
        yield
    except StoreError as error:
        key, _, said = error.message.partition(": ")
        if key.startswith(ground.prefix):
            error.message = f"{ground.store.url}: {said}"
        raise


def _finding(ground: Ground, check: str) -> ProbeFinding:
    try:
        return ProbeFinding(check=check, passed=True, found=CHECKS[check](ground))
    except Broken as broken:
        return ProbeFinding(check=check, passed=False, found=str(broken))
    except (StoreAbsent, StoreUnavailable, StoreDenied, StoreFull):
        raise
    except StoreError as error:
        return ProbeFinding(
            check=check, passed=False, found=f"an error where there should be none: {error.message}"
        )


def _stamp_file(store: Store) -> Path:
    """A name for the URL and what in the environment says where it is: `s3://bucket` may be anywhere."""
    where = sorted(
        f"{name}={value}" for name, value in os.environ.items() if "ENDPOINT" in name or name in ELSEWHERE
    )
    return cache_folder() / "stores" / f"{sha256(chr(0).join([store.url, *where]).encode())}.json"
