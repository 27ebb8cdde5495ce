"""The gate on production: the declared server is started on the candidate, and must be the candidate.

The candidate is published into a store of its own, in a folder that is removed at the end: whatever opens
releases opens it as it will be opened, with a manifest and a number, and nothing of it is visible.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.errors import ModelError, ServingError
from embedmill.gates.parity import verify
from embedmill.release.integrity import content_files
from embedmill.release.layout import CONTENT, MANIFEST, Home
from embedmill.release.log import History, append
from embedmill.release.reader import Release
from embedmill.runtimes.remote.fields.asking import LIMITED_FOR_S, AskedServer
from embedmill.spec.document import now, sha256
from embedmill.spec.documents import FileEntry, Manifest, Verdict
from embedmill.store import cache_folder, open_store
from embedmill.store.cache import link_or_copy
from embedmill.store.scratch import scratch_folder
from embedmill.words import counted

if TYPE_CHECKING:
    from embedmill.spec.documents import Content
    from embedmill.spec.production import ProductionSpec

GATE = "parity"
NO_SERVER = "no server of production is declared (serving.production)"
POLL_S = 0.2
LAST_LINES = 5


def parity(candidate: Release, baseline: Release | None) -> Verdict:  # noqa: ARG001 - the seam
    """Start production's server on the candidate, and compare it with the candidate."""
    production = candidate.content.pipeline.serving.production
    if production is None or not production.command:
        return Verdict(gate=GATE, passed=True, message=NO_SERVER)
    log = cache_folder() / "production" / f"{candidate.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            _rehearsed(candidate) as rehearsal,
            _started(production, rehearsal, log) as url,
            AskedServer(url, production.protocol, limited_for_s=LIMITED_FOR_S) as asked,
        ):
            report = verify(rehearsal.release, rehearsal.number, asked)
    except (ServingError, ModelError) as error:
        return Verdict(gate=GATE, passed=False, message=f"{error.message}; its words are in {log}")
    if not report.passed:
        said = "; ".join(report.failures) or "no encoder could be compared"
        return Verdict(gate=GATE, passed=False, message=f"{said}; the server's words are in {log}")
    log.unlink(missing_ok=True)
    lowest = min(c.cosines.lowest for each in report.encoders for c in each.checks if c.cosines)
    encoders = counted(len(report.encoders), "encoder")
    message = f"{encoders} by {production.protocol}: lowest cosine {lowest:.6f}"
    return Verdict(gate=GATE, passed=True, found=lowest, message=message)


@dataclass(frozen=True)
class Rehearsal:
    """A candidate as it would be published; `scratch` is an empty folder beside it."""

    release: Release
    number: int
    scratch: Path


@contextlib.contextmanager
def _rehearsed(candidate: Release) -> Iterator[Rehearsal]:
    with scratch_folder() as made:
        root, scratch = made / "store", made / "scratch"
        scratch.mkdir()
        root.mkdir()
        home = Home(open_store(str(root), relative_to=root), candidate.content.pipeline.name)
        folder = root / home.release_key(candidate.name)
        files = content_files(candidate.content)
        for entry in files:
            link_or_copy(candidate.folder / entry.path, folder / entry.path)
        content = _without_rate(candidate.content).to_bytes()
        (folder / CONTENT).write_bytes(content)
        files.append(FileEntry(path=CONTENT, size_bytes=len(content), sha256=sha256(content)))
        manifest = Manifest(
            release=candidate.name,
            content_digest=candidate.content.content_digest,
            files=tuple(files),
            created=now(),
        )
        (folder / MANIFEST).write_bytes(manifest.sealed().to_bytes())
        number = append(home, History(()), "publish", candidate.name).number
        yield Rehearsal(Release.open(folder), number, scratch)


def _without_rate(content: Content) -> Content:
    """A limit of requests a minute is one of callers, and the gate is none: it asks as fast as it can."""
    serving = content.pipeline.serving.model_copy(update={"requests_per_minute": None})
    return content.model_copy(update={"pipeline": content.pipeline.model_copy(update={"serving": serving})})


@contextlib.contextmanager
def _started(production: ProductionSpec, rehearsal: Rehearsal, log: Path) -> Iterator[str]:
    """A running server's URL; it is ended by its pid, and all that it started with it.

    Raises:
        ServingError: It does not start, or is not ready in time.
    """
    port = _free_port()
    command = production.arguments(
        release=str(rehearsal.release.folder),
        number=rehearsal.number,
        port=port,
        folder=str(rehearsal.scratch),
    )
    with log.open("wb") as out:
        try:
            process = subprocess.Popen(
                command,
                cwd=production.runs_in,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ServingError(f"{command[0]}: cannot be started: {error.strerror}") from error
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}{production.ready}", production.ready_s, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        _stop(process, production.stop_s)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, ready_s: float, log: Path) -> None:
    deadline = time.monotonic() + ready_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServingError(f"the server ended with exit code {process.returncode}: {_last_words(log)}")
        with contextlib.suppress(urllib.error.URLError, OSError, ValueError):
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - http, as built above
            return
        time.sleep(POLL_S)
    raise ServingError(f"the server was not ready after {ready_s:g} s: {_last_words(log)}")


def _stop(process: subprocess.Popen[bytes], stop_s: float) -> None:
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(stop_s)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # its own session: what it started and left behind
    process.wait()


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return " | ".join(line.strip() for line in lines[-LAST_LINES - 1 :] if line.strip()) or "it said nothing"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
