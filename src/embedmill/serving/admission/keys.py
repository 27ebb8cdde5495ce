"""API keys: read from a file that only its owner and group may read, kept and compared as digests."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import stat
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.errors import SpecError

if TYPE_CHECKING:
    from os import stat_result

log = logging.getLogger("embedmill.serving")

SHORTEST = 16
"""Characters of a key, at least."""
NOT_ALLOWED = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP
LOOK_S = 1.0
"""How often the file is looked at, at most."""


class KeyRing:
    """The keys of a file, each with a name; the file may change at any time.

    A line is a key, or `name: key`; empty lines and those that begin with `#` do not count. A file that
    cannot be used after a change leaves the keys as they were, and says so in the log.
    """

    def __init__(self, file: Path) -> None:
        """Read the file.

        Raises:
            SpecError: It cannot be read, others may read or write it, or it has no keys.
        """
        self._file = file
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._state = _state(file)
        self._names = read_keys(file)

    def __repr__(self) -> str:
        return f"<KeyRing {self._file}: {len(self._names)} keys>"

    def name_of(self, key: bytes) -> str | None:
        """The name of a key; None if it is none."""
        self._look()
        digest = hashlib.sha256(key).digest()
        found = None
        for known, name in self._names.items():  # all of them, so that time tells nothing
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def _look(self) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._looked < LOOK_S:
                return
            self._looked = now
            try:
                state = _state(self._file)
                if state == self._state:
                    return
                self._state = state
                self._names = read_keys(self._file)
                log.info("%s: %d keys", self._file, len(self._names))
            except SpecError as error:
                log.error("keys stay as they were: %s", error)  # noqa: TRY400 - no stack of ours helps


def read_keys(file: Path) -> dict[bytes, str]:
    """SHA-256 of each key, with its name: its own, or `key-N` after its line.

    Raises:
        SpecError: See `KeyRing`.
    """
    mode = stat.S_IMODE(_stat(file).st_mode)
    if mode & NOT_ALLOWED:
        raise SpecError(f"{file}: has the mode {mode:o}: others may use it", hint=f"chmod 600 {file}")
    found: dict[bytes, str] = {}
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise SpecError(f"{file}: cannot be read as text: {type(error).__name__}") from None
    for number, line in enumerate(lines, 1):
        name, key = _entry(line.strip(), number)
        if not key:
            continue
        if len(key) < SHORTEST or not key.isascii() or " " in key:
            raise SpecError(
                f"{file}:{number}: a key has at least {SHORTEST} characters, ASCII, without spaces",
                hint="`openssl rand -hex 32` makes one",
            )
        found[hashlib.sha256(key.encode()).digest()] = name
    if not found:
        raise SpecError(f"{file}: has no keys", hint="write one a line")
    return found


def check_exposure(host: str, *, keys: bool, no_auth: bool) -> None:
    """Whoever lets the network in has keys, or says that none are wanted.

    Raises:
        SpecError: Neither.
    """
    if keys and no_auth:
        raise SpecError("--keys and --no-auth exclude each other", hint="leave one out")
    if not (keys or no_auth or is_loopback(host)):
        raise SpecError(
            f"--host {host} lets others in, and there are no keys",
            hint="give --keys FILE, or --no-auth where something else decides who may ask",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def presented(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key of a request: `Authorization: Bearer KEY` or `x-api-key: KEY`."""
    for name, value in headers:
        if name == b"x-api-key":
            return value
        scheme, _, key = value.partition(b" ")
        if name == b"authorization" and scheme.lower() == b"bearer":
            return key.strip()
    return None


def _entry(line: str, number: int) -> tuple[str, str]:
    if not line or line.startswith("#"):
        return "", ""
    name, colon, key = line.rpartition(":")
    return (name.strip(), key.strip()) if colon else (f"key-{number}", line)


def _stat(file: Path) -> stat_result:
    try:
        return file.stat()
    except OSError as error:
        raise SpecError(f"{file}: cannot be read: {error.strerror}") from None


def _state(file: Path) -> tuple[int, ...]:
    """What changes when a file does, also where a link to it is swapped, as in Kubernetes."""
    found = _stat(file)
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode)
