"""One command in an image's container on one GPU, under the GPU's lock, watched like any worker.

It is how an image is proven before workers are started in it, and what `fleet prove` is made of.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedmill.devices.reach import Answer, run_there
from embedmill.errors import DeviceUnavailable, WorkerFailed, Yielded
from embedmill.fleet.placing import MIB, start_of, yield_rule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embedmill.fleet.container import Borrowed, Room
    from embedmill.fleet.placing import Start
    from embedmill.spec.fleet import FleetSpec
    from embedmill.spec.host import HostFacts
    from embedmill.spec.images import ImageSpec
    from embedmill.types import Host, YieldRule

GIVEN_BACK = 75
POLL_S = 0.5
ANSWER_S = 30.0
GRACE_S = 10.0


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, last words and stdout."""

    exit_code: int
    said: str
    output: str


@dataclass(frozen=True)
class Rehearsal:
    """A GPU of a server, and an image: where commands are to run.

    `run` and `worker` name the container and the lock's holder.
    """

    host: Host
    facts: HostFacts
    fleet: FleetSpec
    image: ImageSpec
    borrowed: Borrowed
    room: Room
    run: str = "prove"
    worker: str = "prove"

    @property
    def device(self) -> str:
        """What commands in the container compute on: it sees no other GPU."""
        return "cpu" if self.image.device == "cpu" else "cuda:0"

    def start(self, arguments: Sequence[str], secrets: Mapping[str, str]) -> None:
        """Start a command of the image, with `secrets` as a JSON object in its stdin.

        Raises:
            DeviceUnavailable: The GPU is somebody's, or the server cannot start containers.
        """
        start = self._start()
        order = {
            "worker": self.worker,
            "folder": self.host.folder,
            "gpus": [self.borrowed.uuid],
            "command": [*start.command, *arguments],
            "input": json.dumps(dict(secrets)) if secrets else "",
            "output": True,
            "watch": dataclasses.asdict(self._yields()),
            "grace_s": GRACE_S,
            "cidfile": start.cid_file,
            "cleanup": list(start.cleanup),
        }
        reply = self._ask("start", order)
        match reply["state"]:
            case "taken":
                raise DeviceUnavailable(f"{self.host.name}: {reply['gpu']} is taken by {reply['by']}")
            case "busy":
                raise DeviceUnavailable(f"{self.host.name}: {reply['gpu']} is busy: {reply['reason']}")
            case "failed":
                raise DeviceUnavailable(f"{self.host.name}: {reply['reason']}")
            case "running":
                raise DeviceUnavailable(f"{self.host.name}: another proof runs there")

    def wait(self, timeout_s: float) -> Ended | None:
        """How the command ended; None if it still runs after so long.

        Raises:
            DeviceUnavailable: The server does not answer.
        """
        started = time.monotonic()
        order = {"folder": self.host.folder, "workers": [self.worker]}
        while True:
            (state,) = self._ask("states", order)["workers"]
            if not state["running"]:
                return Ended(state["exit_code"], state["said"], state.get("output", ""))
            if time.monotonic() - started > timeout_s:
                return None
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End the command, and let go of the GPU.

        Raises:
            DeviceUnavailable: The server does not answer.
        """
        order = {"folder": self.host.folder, "workers": [self.worker], "grace_s": GRACE_S}
        self._ask("stop", order, 2 * GRACE_S + ANSWER_S)

    def finished(self, arguments: Sequence[str], secrets: Mapping[str, str], timeout_s: float) -> Ended:
        """Run a command to its end, whatever its exit code.

        Raises:
            DeviceUnavailable: See `start`.
            Yielded: Somebody else wanted the GPU.
            WorkerFailed: It took too long, and was ended.
        """
        self.start(arguments, secrets)
        try:
            ended = self.wait(timeout_s)
        finally:
            self.stop()
        if ended is None:
            raise WorkerFailed(f"{self.host.name}: {arguments[0]} has not ended after {timeout_s:.0f} s")
        if ended.exit_code == GIVEN_BACK:
            raise Yielded(f"{self.host.name}: {ended.said}", hint="try again once the GPU is idle")
        return ended

    def _start(self) -> Start:
        return start_of(
            self.facts,
            self.borrowed,
            self.image,
            self.fleet.servers[self.host.name],
            worker=self.worker,
            run=self.run,
            room=self.room,
        )

    def _yields(self) -> YieldRule:
        return yield_rule(self.fleet.idle, self.host.name, self.borrowed.used_bytes // MIB)

    def _ask(self, action: str, order: Mapping[str, Any], timeout_s: float = ANSWER_S) -> dict[str, Any]:
        try:
            answer = run_there(
                self.host.reach, "holder", action, data=json.dumps(order).encode(), timeout_s=timeout_s
            )
        except OSError as error:
            raise DeviceUnavailable(f"{self.host.name}: {error.strerror}") from error
        return self._reply(answer)

    def _reply(self, answer: Answer) -> dict[str, Any]:
        if answer.code != 0:
            said = answer.last_line or ("no answer in time" if answer.code is None else f"code {answer.code}")
            raise DeviceUnavailable(f"{self.host.name}: {said}")
        found: dict[str, Any] = json.loads(answer.out)
        return found
