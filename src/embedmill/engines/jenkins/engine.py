"""Worker loops as builds: one parametrised job of a Jenkins, a build of it for each loop.

start ─▶ what is there? ─▶ POST buildWithParameters for loops that have no build ─▶ the queue ─▶ an agent
states: what was last seen; the queue and the job's builds are listed in the background, every 2 s
stop ─▶ items leave the queue, builds are stopped, and killed where they linger

No answer is not an end: builds go on while the controller is away, and are found again by their parameters.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from embedmill.engines.jenkins.observed import GIVEN_BACK, NO_WORD, Seen, observed, parameters_of
from embedmill.engines.telling import Waiting
from embedmill.errors import EmbedmillError, JenkinsError, JenkinsGone, JenkinsUnavailable
from embedmill.types import WorkerState

if TYPE_CHECKING:
    from embedmill.engines.jenkins.api import Jenkins
    from embedmill.types import Placement

EVERY_S = 2.0
SILENT_S = 300.0
START_S = 60.0
GRACE_S = 60.0
AGAIN_S = 0.5
BUILDS = 200
"""How many of the job's newest builds are looked at; running ones that are older are asked one by one."""
LOST = 255
T = TypeVar("T")


class JenkinsEngine:
    """Loops that outlive this process; whoever starts them again under their names finds them running."""

    def __init__(
        self,
        jenkins: Jenkins,
        *,
        every_s: float = EVERY_S,
        silent_s: float = SILENT_S,
        start_s: float = START_S,
        grace_s: float = GRACE_S,
    ) -> None:
        """Ask nothing yet.

        Args:
            jenkins: The controller, and the job whose builds are loops.
            every_s: How often it is asked.
            silent_s: How long it may say nothing until loops count as lost.
            start_s: How long a start asks again where there is no answer.
            grace_s: How long builds may take to stop until they are killed.
        """
        self._jenkins, self._every_s, self._silent_s = jenkins, every_s, silent_s
        self._start_s, self._grace_s = start_s, grace_s
        self._run_url = ""
        self._pool: ThreadPoolExecutor | None = None
        self._asking: Future[None] | None = None
        self._asked_s = 0.0
        self._silent_since_s: float | None = None
        self._trouble = ""
        self._lock = threading.Lock()
        """Held while Jenkins is looked at and changed: a look is of before a start or of after it."""
        self._workers: set[str] = set()
        self._seen: dict[str, Seen] = {}

    def start(self, run_url: str, placements: Sequence[Placement]) -> None:
        """Trigger a build for each loop that has none, or whose build has ended.

        Raises:
            JenkinsError: Jenkins says no.
            JenkinsUnavailable: It gives no answer for `start_s`.
            SpecError: A text cannot be a parameter.
        """
        if not placements:
            return
        wanted = [(place.worker, parameters_of(run_url, place)) for place in placements]
        self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="jenkins")
        self._run_url = run_url
        with self._lock:
            self._workers |= {worker for worker, _ in wanted}
            self._patiently(self._look, self._start_s)
            for worker, parameters in wanted:
                seen = self._seen.get(worker)
                if seen is None or seen.exit_code is not None:
                    self._trigger(worker, parameters, -1 if seen is None else seen.item)

    def states(self) -> list[WorkerState]:
        """What was seen last; Jenkins is asked again in the background."""
        now_s = time.monotonic()
        self._ask_again(now_s)
        since_s = self._silent_since_s
        silent = since_s is not None and now_s - since_s > self._silent_s
        return [self._state(worker, seen, silent) for worker, seen in list(self._seen.items())]

    def stop(self) -> None:
        """Cancel what is queued and stop what runs: a worker ends after its batch. What lingers is killed.

        Where Jenkins gives no answer, or says no, builds are left to the job's own limit of time.
        """
        if self._pool is None:
            return
        self._pool.shutdown(cancel_futures=True)
        with contextlib.suppress(EmbedmillError):  # whoever drives the run has its outcome to tell
            self._stop_all()
        self._pool, self._asking, self._silent_since_s = None, None, None
        self._seen, self._workers = {}, set()

    # What is seen

    def _look(self) -> None:
        # The queue first: what leaves it meanwhile is among the builds.
        items = self._jenkins.items()
        found = observed(self._jenkins.builds(BUILDS), items, self._run_url)
        for worker in self._workers:
            before, now = self._seen.get(worker), found.get(worker)
            if now is not None and (before is None or now.item >= before.item):
                self._seen[worker] = now
            elif before is not None and before.exit_code is None:
                self._seen[worker] = self._asked(before)
        self._silent_since_s = None

    def _asked(self, before: Seen) -> Seen:
        """What became of a build that is in no list: it is just leaving the queue, or is old, or gone.

        Raises:
            JenkinsUnavailable: That cannot be known; a refusal is not an end either.
        """
        if before.number is not None:
            return self._ended(before, lambda: self._jenkins.build(before.number), NO_WORD, "was deleted")
        return self._ended(before, lambda: self._jenkins.queued(before.item), GIVEN_BACK, "was cancelled")

    def _ended(self, before: Seen, ask: Callable[[], object], exit_code: int, how: str) -> Seen:
        try:
            ask()
        except JenkinsGone:
            what = f"build {before.number}" if before.number is not None else f"queue item {before.item}"
            return replace(before, exit_code=exit_code, said=f"{what} {how}", waits=False)
        except JenkinsUnavailable:
            raise
        except JenkinsError as error:
            raise JenkinsUnavailable(error.message, hint=error.hint) from error
        return before

    def _ask_again(self, now_s: float) -> None:
        """Look in the background, unless that was done just now or is being done."""
        busy = self._asking is not None and not self._asking.done()
        waits = any(seen.exit_code is None for seen in list(self._seen.values()))
        if self._pool is None or busy or now_s - self._asked_s < self._every_s or not waits:
            return
        self._asked_s = now_s
        self._asking = self._pool.submit(self._look_again)

    def _look_again(self) -> None:
        try:
            with self._lock:
                self._look()
        except EmbedmillError as error:
            self._trouble = error.message
            self._silent_since_s = self._silent_since_s or time.monotonic()

    def _state(self, worker: str, seen: Seen, silent: bool) -> WorkerState:
        if silent and seen.exit_code is None:
            return WorkerState(worker, LOST, self._trouble)
        return WorkerState(worker, seen.exit_code, seen.said, seen.waits)

    # What is changed

    def _trigger(self, worker: str, parameters: dict[str, str], before: int) -> None:
        """Ask for a build. One that got no answer may be there: that is looked for before asking again."""

        def ask() -> None:
            seen = self._seen.get(worker)
            if seen is not None and seen.item > before:
                return
            try:
                self._seen[worker] = Seen(self._jenkins.trigger(parameters), waits=True)
            except JenkinsUnavailable:
                self._look()
                raise

        self._patiently(ask, self._start_s)

    def _patiently(self, what: Callable[[], T], patience_s: float) -> T:
        """Do it again while there is no answer; a wait of some seconds is told as a warning.

        Raises:
            JenkinsUnavailable: There is none for so long.
        """
        waiting = Waiting("Jenkins")
        while True:
            try:
                found = what()
            except JenkinsUnavailable as error:
                left_s = patience_s - waiting.waited_s()
                if left_s < 0:
                    raise
                waiting.tell(error.message, left_s)
            else:
                waiting.answered()
                return found
            time.sleep(AGAIN_S)

    def _stop_all(self) -> None:
        """Stop, and wait until nothing is left; builds that linger are killed, once."""
        deadline_s, asked, hard = time.monotonic() + self._grace_s, set[int](), False
        while True:
            self._patiently(self._look, self._every_s)
            left = [seen for seen in self._seen.values() if seen.exit_code is None]
            if not left:
                return
            if time.monotonic() > deadline_s:
                if hard:
                    return
                deadline_s, hard = time.monotonic() + self._grace_s, True
                asked.clear()
            for seen in sorted(left, key=lambda seen: seen.number is not None):  # else what waits begins
                self._end(seen, asked, hard)
            time.sleep(min(AGAIN_S, self._every_s))

    def _end(self, seen: Seen, asked: set[int], hard: bool) -> None:
        """Once for an item of the queue, and once for the build that became of it."""
        target = seen.item if seen.number is None else -seen.number
        if target in asked:
            return
        asked.add(target)
        if seen.number is None:
            self._jenkins.cancel(seen.item)
        else:
            self._jenkins.stop(seen.number, hard=hard)
