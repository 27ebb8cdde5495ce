"""The life of a holder: locks, a second look, the worker as its child, and what becomes of both."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from embedmill.devices.guardian import Guardian, dying_with, end_all
from embedmill.devices.locks import GpuLock, LocksUnusable, holder_of, try_lock
from embedmill.devices.lookout import EVERY_S, Lookout
from embedmill.devices.notes import Notes
from embedmill.devices.occupants import Gpus, GpuUnknown
from embedmill.devices.processes import ours, started
from embedmill.devices.procfs import namespaced
from embedmill.devices.watch import MIB, Limits, too_busy

YIELDED = 75
"""The exit code of a worker that gave its devices back."""
YIELD_S = 6.0
"""Grace where somebody waits: with two samples before, a second apart, the GPU is theirs within 10 s."""
LOOK_S = 10.0
"""How long the driver may take to tell who is there."""
TICK_S = 0.1
ID_CHARACTERS = 12
"""Of a container's id at least: fewer would be in other names, too."""
MEMORY_MIB, UTILISATION = 500, 5


class Keeper:
    """Keeps the locks of some GPUs while a worker runs on them."""

    def __init__(self, request: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
        """`tell` takes the one answer to whoever asked for the start."""
        self._request, self._tell = request, tell
        self._worker: str = request["worker"]
        self._about: str = request.get("about", "")
        self._gpus: list[str] = sorted(request.get("gpus", ()))
        self._watch: dict[str, Any] | None = request.get("watch")
        self._grace_s = float(request.get("grace_s", 10))
        self._cleanup: list[str] = list(request.get("cleanup") or ())
        self._stop_asked = False
        self._locks: list[GpuLock] = []

    def run(self) -> None:
        """The whole life; `tell` has been called when it returns."""
        guardian = Guardian()
        try:
            notes = Notes(self._request["folder"])
            name = notes.lock(self._worker)
            if name is None:
                self._tell({"state": "running", "pid": notes.read(self._worker).get("pid", 0)})
                return
            notes.forget(self._worker)
            notes.collect()
            refusal = self._take() or self._look_again()
            if refusal:
                self._tell(refusal)
                return
            self._keep(notes, guardian)
        except LocksUnusable as error:
            self._tell({"state": "failed", "reason": str(error)})
        finally:
            for lock in self._locks:
                lock.release()
            guardian.dismiss()

    def _take(self) -> dict[str, Any] | None:
        """Take all locks; what to answer if one is taken."""
        about = f" ({self._about})" if self._about else ""
        words = f"{_user()}: worker {self._worker}{about}, pid {os.getpid()}, since {_now()}"
        for uuid in self._gpus:
            lock = try_lock(self._request["folder"], uuid, words)
            if lock is None:
                by = holder_of(self._request["folder"], uuid) or "somebody who has just gone"
                return {"state": "taken", "gpu": uuid, "by": by}
            self._locks.append(lock)
        return None

    def _look_again(self) -> dict[str, Any] | None:
        """What to answer if a GPU is no longer idle: between the first look and the lock is time.

        In a thread: a driver that hangs must not hang who waits for the answer, and then the locks.
        """
        if self._watch is None:
            return None
        answers: list[dict[str, Any] | None] = []
        watch = self._watch
        look = threading.Thread(target=lambda: answers.append(_not_idle(self._gpus, watch)), daemon=True)
        look.start()
        look.join(LOOK_S)
        silent = {"state": "failed", "reason": f"the driver gives no answer for {LOOK_S:.0f} s"}
        return answers[0] if answers else silent

    def _keep(self, notes: Notes, guardian: Guardian) -> None:
        signal.signal(signal.SIGTERM, self._on_sigterm)
        try:
            child = self._started(notes)
        except OSError as error:
            reason = f"{self._request['command'][0]}: {(error.strerror or str(error)).lower()}"
            self._tell({"state": "failed", "reason": reason})
            return
        guardian.watch(child.pid, self._cleanup)
        note = {"worker": self._worker, "pid": child.pid, "holder": os.getpid(), "gpus": self._gpus}
        note.update(started=started(os.getpid()), since=_now(), cidfile=self._request.get("cidfile"))
        try:
            notes.write(self._worker, note)
            self._tell({"state": "started", "pid": child.pid})
            code, reason = self._wait(child)
        finally:
            end_all(child.pid, self._cleanup)
            self._forget_container()
        said = reason or notes.last_words(self._worker)
        notes.write(self._worker, {**note, "exit_code": code, "said": said, "ended": _now()})

    def _started(self, notes: Notes) -> subprocess.Popen[bytes]:
        """The worker, in a session of its own, which dies with this process."""
        stdin = os.memfd_create("input")  # on no disk, and never in the way, however long it is
        os.write(stdin, self._request.get("input", "").encode())
        os.lseek(stdin, 0, os.SEEK_SET)
        log = notes.open_log(self._worker)
        output = notes.open_output(self._worker) if self._request.get("output") else None
        self._forget_container()  # an earlier one's: podman writes over none
        try:
            return subprocess.Popen(
                self._request["command"],
                stdin=stdin,
                stdout=subprocess.DEVNULL if output is None else output,
                stderr=log,
                env={**os.environ, **self._request.get("environment", {})},
                start_new_session=True,
                preexec_fn=dying_with(os.getpid()),
            )
        finally:
            for each in (stdin, log, output):
                if each is not None:
                    os.close(each)

    def _wait(self, child: subprocess.Popen[bytes]) -> tuple[int, str]:
        """Wait for the worker's end: its exit code, and why it was sent away, if somebody else came."""
        lookout = self._lookout(child.pid)
        reason, deadline_s = "", float("inf")
        while True:
            code = child.poll()
            if code is not None:
                break
            reason = reason or (lookout.reason if lookout else "")
            if (reason or self._stop_asked) and deadline_s == float("inf"):
                child.terminate()
                deadline_s = time.monotonic() + (min(self._grace_s, YIELD_S) if reason else self._grace_s)
            if time.monotonic() > deadline_s:
                end_all(child.pid, self._cleanup)
            time.sleep(TICK_S)
        if lookout:
            lookout.stop()
        return (YIELDED, reason) if reason and code else (code, "")

    def _lookout(self, root: int) -> Lookout | None:
        if self._watch is None or not self._gpus:
            return None
        is_ours = ours(root, self._container)
        every_s = float(self._watch.get("every_s", EVERY_S))
        lookout = Lookout(self._gpus, _limits(self._watch), is_ours, every_s)
        lookout.start()
        return lookout

    def _container(self) -> str:
        """The id of the worker's container, as soon as there is one."""
        path = self._request.get("cidfile")
        if path:
            with contextlib.suppress(OSError), open(path, encoding="ascii", errors="replace") as file:
                found = file.read().strip()
                return found if len(found) >= ID_CHARACTERS else ""
        return ""

    def _forget_container(self) -> None:
        with contextlib.suppress(OSError):
            os.remove(self._request.get("cidfile") or "")

    def _on_sigterm(self, number: int, frame: Any) -> None:  # noqa: ARG002 - the signal API
        self._stop_asked = True


def _not_idle(gpus: list[str], watch: dict[str, Any]) -> dict[str, Any] | None:
    """What to answer if one of the GPUs is not idle, or tells nothing."""
    limits, utilisation = _limits(watch), int(watch.get("utilisation", UTILISATION))
    for uuid in gpus:
        try:
            found = too_busy(Gpus().sample(uuid), limits, utilisation)
        except GpuUnknown as error:
            return {"state": "failed", "reason": f"{uuid}: {error}"}
        if found:
            return {"state": "busy", "gpu": uuid, "reason": found}
    return None


def _limits(watch: dict[str, Any]) -> Limits:
    own_mib = watch.get("own_mib")
    return Limits(
        baseline_bytes=int(watch.get("baseline_mib") or 0) * MIB,
        margin_bytes=int(watch.get("memory_mib", MEMORY_MIB)) * MIB,
        exempt=tuple(watch.get("exempt") or ()),
        pids_tell=not namespaced(),
        own_bytes=None if own_mib is None else int(own_mib) * MIB,
    )


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
