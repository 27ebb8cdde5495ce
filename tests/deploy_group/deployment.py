"""Three servers behind a balancer, replaced as a Deployment with maxUnavailable 0 and maxSurge 1 does it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.deploy_group.haproxy import Balancer
from tests.support.replicas import NeverReady, Replica, run

REPLICAS = 3
Spoil = Callable[[Path], None]
Pod = tuple[Replica, Path]


def leave_alone(_: Path) -> None:
    """The release as it was fetched."""


class Deployment:
    """Pods of a pipeline's releases, each with a folder of its own that `embedmill fetch` filled."""

    def __init__(self, pipeline_url: str, folder: Path, balancer: Balancer) -> None:
        self._url = pipeline_url
        self._folder = folder
        self._balancer = balancer
        self._names = itertools.count()
        self._pods: list[Pod] = []
        self.peak_memory_bytes = 0

    def start(self, number: int) -> None:
        """The first pods, all at once."""
        with ThreadPoolExecutor(REPLICAS) as pool:
            for pod in pool.map(self._ready, [number] * REPLICAS):
                self._join(pod)

    def roll_out(self, number: int, spoil: Spoil = leave_alone) -> None:
        """Replace pod after pod; stops where a new one does not become ready.

        Raises:
            NeverReady: It did not; the old ones that are left go on.
        """
        for old, folder in list(self._pods):
            self._add(number, spoil)
            assert self._balancer.up() == REPLICAS + 1
            self._remove(old, folder)

    def close(self) -> None:
        for replica, _ in self._pods:
            replica.kill()

    @property
    def releases(self) -> set[str]:
        return {replica.release for replica, _ in self._pods}

    def _add(self, number: int, spoil: Spoil = leave_alone) -> None:
        self._join(self._ready(number, spoil))

    def _join(self, pod: Pod) -> None:
        self._pods.append(pod)
        self._balancer.add(pod[0].port)

    def _ready(self, number: int, spoil: Spoil = leave_alone) -> Pod:
        """A pod that fetched its release and is ready, which nobody asks yet."""
        folder = self._folder / f"pod{next(self._names)}"
        run(["fetch", self._url, "--release", str(number), "--to", str(folder), "--quiet"])
        spoil(folder)
        replica = Replica(folder)
        try:
            replica.wait_ready()
        except NeverReady:
            shutil.rmtree(folder)
            raise
        return replica, folder

    def _remove(self, replica: Replica, folder: Path) -> None:
        """The balancer is told nothing: what it sees at /readyz must do."""
        self.peak_memory_bytes = max(self.peak_memory_bytes, replica.peak_memory_bytes())
        replica.told_to_end()
        self._balancer.wait_out(replica.port)
        assert replica.wait_ended() == 0
        self._balancer.forget(replica.port)
        self._pods.remove((replica, folder))
        shutil.rmtree(folder)
