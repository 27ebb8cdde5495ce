"""Holds GPUs for a worker: takes their locks, starts it, watches for others, ends it. `holder.py ACTION`.

ssh ─▶ start ─▶ fork ─▶ holder: locks ─▶ looks again ─▶ worker ─▶ waits: its end │ somebody else │ `stop`
         ◀── {"state": "started"} ──┘      (outlives ssh)            └─▶ SIGTERM, `grace_s`, SIGKILL

Every action reads one JSON object from stdin and answers with one on stdout:

start   {worker, folder, gpus, command, input, environment, watch, grace_s, cidfile, cleanup, output, about}
        {"state": "started" | "running", pid} {"state": "taken", gpu, by} {"state": "busy", gpu, reason}
        {"state": "failed", reason}
states  {folder, workers}            {"workers": [{worker, running, exit_code, said, output}]}
stop    {folder, workers, grace_s}   the same, after they have ended

Where notes cannot be read, states and stop also answer `problem`: nobody knows what runs. Instead of
`workers`, `ending` names all whose names end so and whose notes lie here, whoever knows of them.

`input` becomes the worker's stdin; its stdout is kept, and told after its end, if `output` is true. `watch`
is null, or {every_s, memory_mib, baseline_mib, exempt, utilisation}. `cidfile`, if any, is where `podman run
--cidfile` writes the id of the worker's container, so that its processes count as ours; `cleanup`, if any,
is a command that ends what may outlive the worker, such as that container. `about` says whose the worker is,
for people who find the GPU taken. Killing the holder frees its
locks, and ends the worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from typing import Any, NoReturn

from embedmill.devices.guardian import end_all
from embedmill.devices.keeping import Keeper
from embedmill.devices.locks import LocksUnusable
from embedmill.devices.notes import Notes
from embedmill.devices.processes import started

POLL_S = 0.1
AFTER_KILL_S = 5.0


def main() -> int:
    """Carry out the action that argv names."""
    request = json.loads(sys.stdin.buffer.read() or b"{}")
    answer = {"start": start, "states": states, "stop": stop}[sys.argv[1]](request)
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def start(request: dict[str, Any]) -> dict[str, Any]:
    """Start a holder that outlives this process, and wait until its worker runs, or cannot."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _become_holder(request, writing)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.readline()
    if not said:
        return {"state": "failed", "reason": "the holder ended without a word"}
    answer: dict[str, Any] = json.loads(said)
    return answer


def states(request: dict[str, Any]) -> dict[str, Any]:
    """What became of workers."""
    try:
        notes = Notes(request["folder"])
        return {"workers": [notes.state(worker) for worker in _named(request, notes)]}
    except LocksUnusable as error:
        unknown = [_unknown(worker, str(error)) for worker in request.get("workers", ())]
        return {"problem": str(error), "workers": unknown}


def stop(request: dict[str, Any]) -> dict[str, Any]:
    """Ask workers to stop, wait, end those that linger."""
    try:
        notes = Notes(request["folder"])
    except LocksUnusable:
        return states(request)
    workers = _named(request, notes)
    running = [worker for worker in workers if notes.runs(worker)]
    for worker in running:
        _signal_holder(notes.read(worker), signal.SIGTERM)
    _wait(notes, running, float(request.get("grace_s", 10)))
    for note in _lingering(notes, running):
        end_all(note.get("pid", 0), ())
    _wait(notes, running, AFTER_KILL_S)
    for note in _lingering(notes, running):
        _signal_holder(note, signal.SIGKILL)
    _wait(notes, running, AFTER_KILL_S)
    return states({"folder": request["folder"], "workers": workers})


def _named(request: dict[str, Any], notes: Notes) -> list[str]:
    """The workers that a request is about."""
    if "ending" in request:
        return notes.ending(request["ending"])
    workers: list[str] = request["workers"]
    return workers


def _become_holder(request: dict[str, Any], writing: int) -> NoReturn:
    """What is left of this process is the holder: no child of ssh, and with nothing of it open."""
    code = 1
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(null, standard)
        with contextlib.suppress(OSError):
            os.chdir("/")
        for each in (signal.SIGHUP, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
        tell = _Teller(writing)
        try:
            Keeper(request, tell).run()
            code = 0
        except Exception as error:  # noqa: BLE001 - whoever waits hears of it
            tell({"state": "failed", "reason": f"{type(error).__name__}: {error}"})
    finally:
        os._exit(code)


class _Teller:
    """dict[str, Any]s once to whoever waits at the other end of a pipe."""

    def __init__(self, writing: int) -> None:
        self._writing = writing

    def __call__(self, answer: dict[str, Any]) -> None:
        if self._writing >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._writing, json.dumps(answer).encode() + b"\n")
            os.close(self._writing)
            self._writing = -1


def _wait(notes: Notes, workers: list[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(notes.runs(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _lingering(notes: Notes, workers: list[str]) -> list[dict[str, Any]]:
    return [notes.read(worker) for worker in workers if notes.runs(worker)]


def _signal_holder(note: dict[str, Any], number: signal.Signals) -> None:
    """Never another process: one that has the pid of an earlier holder began at another time."""
    holder = note.get("holder", 0)
    if holder and started(holder) == note.get("started"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(holder, number)


def _unknown(worker: str, why: str) -> dict[str, Any]:
    return {"worker": worker, "running": False, "exit_code": 1, "said": why}
