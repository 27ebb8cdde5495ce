"""Looks at borrowed GPUs again and again, in a thread: a driver that hangs must not hang those who ask."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from embedmill.devices.occupants import Gpus, GpuUnknown
from embedmill.devices.processes import started
from embedmill.devices.watch import BLIND_S, Limits, Suspicion

EVERY_S = 1.0


class Lookout:
    """Tells when GPUs are to be given back. `ours` says whether a pid is one of our processes."""

    def __init__(
        self, uuids: Sequence[str], limits: Limits, ours: Callable[[int], bool], every_s: float = EVERY_S
    ) -> None:
        """Look at nothing yet."""
        self._ours, self._every_s = ours, every_s
        now_s = time.monotonic()
        self._suspicions = {uuid: Suspicion(uuid, limits, now_s) for uuid in uuids}
        self._gpus: Gpus | None = None
        self._own: dict[str, frozenset[int]] = {}
        self._reason, self._looked_s = "", now_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)

    def start(self) -> None:
        """Look, from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; a look that hangs is not waited for."""
        self._stop.set()

    def know_own(self, own_bytes: int) -> None:
        """The most that we take of each GPU."""
        for suspicion in self._suspicions.values():
            suspicion.know_own(own_bytes)

    @property
    def reason(self) -> str:
        """Why the GPUs are to be given back, in words; empty while they are ours."""
        silent_s = time.monotonic() - self._looked_s
        if not self._reason and silent_s >= BLIND_S:
            self._reason = (
                f"the driver has told nothing of {', '.join(self._suspicions)} for {silent_s:.0f} s"
            )
        return self._reason

    def _run(self) -> None:
        while not self._stop.is_set() and not self._reason:
            for uuid, suspicion in self._suspicions.items():
                found = self._look(uuid, suspicion)
                self._reason = self._reason or found
            self._looked_s = time.monotonic()
            self._stop.wait(self._every_s)

    def _look(self, uuid: str, suspicion: Suspicion) -> str:
        try:
            if self._gpus is None:
                self._gpus = Gpus()
            sample = self._gpus.sample(uuid)
        except GpuUnknown as error:
            self._gpus = None
            return suspicion.blind(time.monotonic(), str(error))
        before = self._own.get(uuid, frozenset())
        own = frozenset(each.pid for each in sample.processes if self._is_ours(each.pid, before))
        self._own[uuid] = own
        return suspicion.hear(sample, own, time.monotonic())

    def _is_ours(self, pid: int, before: frozenset[int]) -> bool:
        """One of ours that has just ended is in no /proc any more, and may still be in NVML's list."""
        return self._ours(pid) or (pid in before and started(pid) is None)
