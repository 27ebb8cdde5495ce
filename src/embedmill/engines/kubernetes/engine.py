"""Worker loops as Jobs: an index of a Job is a loop.

start ─▶ what is there? ─▶ a Job for loops that have none ─▶ the cluster starts pods, and replaces them
states: what was last seen; Jobs and pods are listed in the background, every 2 s
stop ─▶ Jobs are deleted, their pods first

No answer is not an end: pods go on while the API server is away. The cluster replaces pods by itself; a loop
whose pod ended is told as ended until it is started again, which finds the replacement.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from embedmill.engines.kubernetes.api import Api
from embedmill.engines.kubernetes.manifest import RUN, Cluster, Family, Slots, job, run_label, slots_of
from embedmill.engines.kubernetes.observed import (
    CANNOT_WORK,
    DELETED,
    LOST,
    Seen,
    is_going,
    observed,
    slots_in,
    start_of,
)
from embedmill.errors import EmbedmillError, SpecError
from embedmill.types import WorkerState

if TYPE_CHECKING:
    from embedmill.types import Placement

EVERY_S = 2.0
ANSWER_S = 20.0
SILENT_S = 300.0
START_S = 60.0
"""How long a start waits for an API server that gives no answer."""


class KubernetesEngine:
    """Loops that outlive this process; whoever starts them again under their names finds them running."""

    def __init__(
        self,
        cluster: Cluster,
        families: Mapping[str, Family],
        *,
        every_s: float = EVERY_S,
        answer_s: float = ANSWER_S,
        silent_s: float = SILENT_S,
        start_s: float = START_S,
    ) -> None:
        """Ask nothing yet.

        Args:
            cluster: What all Jobs have in common.
            families: What the pods of an image have in common, by `Placement.image`.
            every_s: How often the cluster is asked.
            answer_s: How long one answer may take.
            silent_s: How long the API server may say nothing until loops count as lost.
            start_s: How long a start asks again where there is no answer.
        """
        self._cluster, self._families = cluster, families
        self._every_s, self._answer_s = every_s, answer_s
        self._silent_s, self._start_s = silent_s, start_s
        self._api: Api | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._asking: Future[None] | None = None
        self._asked_s = 0.0
        self._silent_since_s: float | None = None
        self._trouble = ""
        self._selector = ""
        self._lock = threading.Lock()
        """Held while the cluster is looked at and changed: a look is of before a start or of after it."""
        self._seen: dict[str, Seen] = {}
        self._told: dict[str, str] = {}
        """Worker → the pod whose end is known, and whose replacement is waited for."""

    def start(self, run_url: str, placements: Sequence[Placement]) -> None:
        """Create Jobs for loops that have none, or whose index the cluster has given up.

        Raises:
            EngineRefused: The cluster says no.
            EngineUnavailable: It gives no answer for `start_s`.
            SpecError: No family has a placement's image, or there is no cluster.
        """
        if not placements:
            return
        api = self._opened()
        self._selector = f"{RUN}={run_label(run_url)}"
        with self._lock:
            jobs = self._look(api, self._start_s)
            wanted: dict[str, list[Placement]] = defaultdict(list)
            for place in placements:
                if self._is_wanted(place.worker):
                    wanted[place.image].append(place)
            for name, places in wanted.items():
                self._create(api, run_url, self._family(name), places, jobs)

    def states(self) -> list[WorkerState]:
        """What was seen last; the cluster is asked again in the background."""
        now_s = time.monotonic()
        self._ask_again(now_s)
        since_s = self._silent_since_s
        silent = since_s is not None and now_s - since_s > self._silent_s
        return [self._state(worker, seen, silent) for worker, seen in list(self._seen.items())]

    def stop(self) -> None:
        """Delete the run's Jobs; their pods get SIGTERM, and are killed after their grace period.

        Where the cluster gives no answer, or says no, Jobs are left to their deadline.
        """
        if self._pool is None or self._api is None:
            return
        self._pool.shutdown(cancel_futures=True)
        with contextlib.suppress(EmbedmillError):  # whoever drives the run has its outcome to tell
            self._delete_all(self._api)
        self._api.close()
        self._api, self._pool, self._asking, self._silent_since_s = None, None, None, None
        self._seen, self._told = {}, {}

    # What is seen

    def _look(self, api: Api, patience_s: float) -> list[dict[str, Any]]:
        jobs = api.jobs(self._selector, patience_s)
        found = observed(jobs, api.pods(self._selector, patience_s), datetime.now(UTC))
        for worker, before in self._seen.items():
            if worker not in found:
                gone = replace(before, exit_code=DELETED, said=f"Job {before.job} was deleted", final=True)
                found[worker] = before if before.final else gone
        self._seen, self._silent_since_s = found, None
        return jobs

    def _ask_again(self, now_s: float) -> None:
        """Look in the background, unless that was done just now or is being done."""
        busy = self._asking is not None and not self._asking.done()
        waits = any(not seen.final for seen in self._seen.values())
        if self._pool is None or busy or now_s - self._asked_s < self._every_s or not waits:
            return
        self._asked_s = now_s
        self._asking = self._pool.submit(self._look_again)

    def _look_again(self) -> None:
        api = self._api
        if api is None:
            return
        try:
            with self._lock:
                self._look(api, 0.0)
        except EmbedmillError as error:
            self._trouble = error.message
            self._silent_since_s = self._silent_since_s or time.monotonic()

    def _state(self, worker: str, seen: Seen, silent: bool) -> WorkerState:
        if seen.final:
            return WorkerState(worker, seen.exit_code, seen.said)
        if silent:
            return WorkerState(worker, LOST, self._trouble)
        if self._told.get(worker) == seen.witness:
            return WorkerState(worker, None)
        return WorkerState(worker, seen.exit_code, seen.said, seen.waits)

    # What is changed

    def _is_wanted(self, worker: str) -> bool:
        """Whether a loop needs a Job; of one whose pod ended, that end is known from now on."""
        seen = self._seen.get(worker)
        if seen is None or seen.final:
            return True
        if seen.exit_code not in {None, LOST, CANNOT_WORK}:
            self._told[worker] = seen.witness
        return False

    def _create(
        self,
        api: Api,
        run_url: str,
        family: Family,
        places: Sequence[Placement],
        jobs: Sequence[Mapping[str, Any]],
    ) -> None:
        by_worker = {place.worker: place for place in places}
        for slots in slots_of(list(by_worker)):
            start = 1 + _last_start(jobs, slots)
            made = job(self._cluster, family, run_url, slots, by_worker[slots.names()[0]], start)
            api.create_job(made, self._start_s)
            for worker in slots.names():
                self._seen[worker] = Seen(made["metadata"]["name"], start, None)
                self._told.pop(worker, None)

    def _delete_all(self, api: Api) -> None:
        """Delete, and wait until nothing is left; Jobs of a start that got no answer may appear meanwhile."""
        deadline = time.monotonic() + self._cluster.grace_s + self._answer_s
        while time.monotonic() < deadline:
            jobs = api.jobs(self._selector, self._answer_s)
            if not jobs and not api.pods(self._selector, self._answer_s):
                return
            for each in jobs:
                if not is_going(each):
                    api.delete_job(each["metadata"]["name"], self._answer_s)
            time.sleep(min(0.2, self._every_s))

    def _family(self, name: str) -> Family:
        if name not in self._families:
            raise SpecError(f"engine kubernetes: no family {name!r}", hint="name it in `kubernetes.families`")
        return self._families[name]

    def _opened(self) -> Api:
        if self._api is None:
            self._api = Api(self._cluster.namespace, self._cluster.context, answer_s=self._answer_s)
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="kubernetes")
        return self._api


def _last_start(jobs: Sequence[Mapping[str, Any]], slots: Slots) -> int:
    """The number of the last start of one of these loops, in whichever Job; 0 where there was none."""
    wanted = set(slots.names())
    return max((start_of(each) for each in jobs if wanted & set(slots_in(each).names())), default=0)
