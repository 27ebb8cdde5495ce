"""Starts a worker under a holder and stays with it until it ends, for engines that run one command a worker.

    python3 -I attend.py < order.json

The order is the holder's `start`, with one more key: `secrets` are names of environment variables, which the
worker gets through stdin as one JSON object, and so nobody else on the host. A worker of that name that runs
already is stayed with: so a second start after a lost connection finds the first one's work.

Ends with the worker's exit code; 75: it gave its GPU back, or never had it; 126: it could not be started.
SIGTERM stops the worker first. A line every now and then says that it still works.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

from embedmill.devices import holder

GIVEN_BACK, CANNOT_START = 75, 126
POLL_S = 0.2
WORD_S = 30.0


class Stopped(Exception):
    """Somebody wants the worker to end."""


def main() -> int:
    """Carry out the order on stdin."""
    order = json.loads(sys.stdin.buffer.read())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        return attend(order)
    except Stopped:
        answer = holder.stop({"folder": order["folder"], "workers": [order["worker"]], "grace_s": 10})
        _say(order, "was stopped")
        return _code(answer["workers"][0])


def attend(order: dict[str, Any]) -> int:
    """Start the worker and wait for its end: its exit code, as a shell has it."""
    answer = holder.start({**order, "input": _input(order.get("secrets"))})
    state = answer["state"]
    if state in ("taken", "busy"):
        _say(order, f"{state}: {answer.get('by') or answer.get('reason')}")
        return GIVEN_BACK
    if state == "failed":
        _say(order, answer["reason"])
        return CANNOT_START
    _say(order, "works" if state == "started" else "works already")
    return _wait(order)


def _wait(order: dict[str, Any]) -> int:
    began = spoke = time.monotonic()
    while True:
        (state,) = holder.states({"folder": order["folder"], "workers": [order["worker"]]})["workers"]
        if not state["running"]:
            _say(order, f"ended with {state['exit_code']}: {state['said']}")
            return _code(state)
        if time.monotonic() - spoke >= WORD_S:
            spoke = time.monotonic()
            _say(order, f"has worked for {spoke - began:.0f} s")
        time.sleep(POLL_S)


def _input(names: Any) -> str:
    """What the worker reads from stdin; nothing where no names are lent."""
    return json.dumps({name: os.environ[name] for name in names if name in os.environ}) if names else ""


def _code(state: dict[str, Any]) -> int:
    code = int(state["exit_code"])
    return code if code >= 0 else 128 - code


def _say(order: dict[str, Any], words: str) -> None:
    printable = words.encode("ascii", "backslashreplace").decode()
    sys.stdout.write(f"{order['worker']} {printable}\n")
    sys.stdout.flush()


def _stop(number: int, frame: Any) -> None:  # noqa: ARG001 - the signal API
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise Stopped
