"""One worker loop on an agent of Jenkins: started, stayed with, and told. The worker job's build calls it.

A line every now and then says that it still works, by which Jenkins tells a lost agent from a long shard.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from embedmill.engines.local import LocalEngine
from embedmill.types import WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from embedmill.types import Placement

POLL_S = 0.2
WORD_S = 30.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Stopped(BaseException):
    """Somebody aborts the build."""


def attend(run_url: str, place: Placement, say: Callable[[str], None]) -> WorkerState | None:
    """Run a loop to its end: how it ended; None where somebody stopped it.

    SIGTERM stops the loop, which has a few seconds to finish its batch.
    """
    for number in SIGNALS:
        signal.signal(number, _stop)
    engine = LocalEngine()
    try:
        engine.start(run_url, [place])
        return _ended(engine, say)
    except _Stopped:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        say(f"{place.worker} is stopped")
        return None
    finally:
        engine.stop()


def _ended(engine: LocalEngine, say: Callable[[str], None]) -> WorkerState:
    began = spoke = time.monotonic()
    while (state := engine.states()[0]).exit_code is None:
        if time.monotonic() - spoke >= WORD_S:
            spoke = time.monotonic()
            say(f"{state.worker} has worked for {spoke - began:.0f} s")
        time.sleep(POLL_S)
    return state


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signal API
    raise _Stopped
