"""A Jenkins with one job whose builds are worker loops: a queue, executors, builds that are stopped.

It answers only what the engine asks, as these pages say:

    https://www.jenkins.io/doc/book/using/remote-access-api/        tree, buildWithParameters, queue
    https://www.jenkins.io/doc/book/using/aborting-a-build/         stop, kill
    https://javadoc.jenkins.io/hudson/model/Queue.html              equal items are queued once
    https://javadoc.jenkins.io/hudson/model/Run.html                queueId, building, result, description

Builds are documents here, which tests change; `begin` and `end` are what a subclass gives them to do.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from tests.support.fake_jenkins import Answer, FakeJenkins

REDIRECTED = (302, {"Location": "/ci/"}, None)


@dataclass
class JenkinsJob(FakeJenkins):
    """`executors`: builds at a time; the others wait in the queue."""

    executors: int = 8
    strange: list[str] = field(default_factory=list)
    """What was asked that the engine need not ask."""

    def __post_init__(self) -> None:
        self.queue: dict[int, dict[str, str]] = {}
        self.cancelled_items: set[int] = set()
        self.all_builds: dict[int, dict[str, Any]] = {}
        self.lock = threading.RLock()
        self._items = 100

    def begin(self, build: dict[str, Any], parameters: dict[str, str]) -> None:
        """A build gets an executor."""

    def end(self, build: dict[str, Any], *, hard: bool) -> None:
        """Somebody stops a build that runs."""
        build |= {"building": False, "result": "ABORTED"}

    def refresh(self) -> None:
        """Before builds are told."""

    def build_of(self, worker: str) -> dict[str, Any]:
        """The newest build of a loop."""
        with self.lock:
            return next(
                each for each in reversed(self.all_builds.values()) if parameters_of(each)["WORKER"] == worker
            )

    def _act(self, where: str, job: str, body: str) -> Answer:
        with self.lock:
            self.refresh()
            if where == f"{job}/buildWithParameters":
                return self._queued_anew({name: values[0] for name, values in parse_qs(body).items()})
            if where == "/ci/queue/cancelItem":
                return self._cancelled()
            for number, build in self.all_builds.items():
                if where in {f"{job}/{number}/stop", f"{job}/{number}/kill"}:
                    if build["building"]:
                        self.end(build, hard=where.endswith("kill"))
                    self._go_on()
                    return REDIRECTED
        self.strange.append(where)
        return 404, {}, None

    def _queued_anew(self, parameters: dict[str, str]) -> Answer:
        item = next((each for each, found in self.queue.items() if found == parameters), None)
        if item is None:
            self._items += 1
            item = self._items
            self.queue[item] = parameters
            self._go_on()
        return 201, {"Location": f"{self.url}/queue/item/{item}/"}, None

    def _cancelled(self) -> Answer:
        item = int(self.asked[-1][1].rpartition("=")[2])
        if self.queue.pop(item, None) is None:
            return 404, {}, None
        self.cancelled_items.add(item)
        return 204, {}, None

    def _go_on(self) -> None:
        """Give free executors to what waits."""
        running = sum(build["building"] for build in self.all_builds.values())
        for item in sorted(self.queue)[: max(0, self.executors - running)]:
            parameters = self.queue.pop(item)
            number = len(self.all_builds) + 1
            self.all_builds[number] = {
                "number": number,
                "queueId": item,
                "building": True,
                "result": None,
                "description": None,
                "url": f"{self.url}/{number}/",
                "duration": 0,
                **_actions(parameters),
            }
            self.begin(self.all_builds[number], parameters)

    def _tell(self, where: str, job: str) -> Answer:
        with self.lock:
            self.refresh()
            self._go_on()
            if where == f"{job}/api/json":
                return 200, {}, {"allBuilds": list(reversed(self.all_builds.values()))}
            if where == "/ci/queue/api/json":
                return 200, {}, {"items": [self._item(item) for item in self.queue]}
            for item in (*self.queue, *self.cancelled_items):
                if where == f"/ci/queue/item/{item}/api/json":
                    return 200, {}, {"cancelled": item in self.cancelled_items, "why": "waits"}
            for number, build in self.all_builds.items():
                if where == f"{job}/{number}/api/json":
                    return 200, {}, build
                if where == f"/ci/queue/item/{build['queueId']}/api/json":
                    return 200, {}, {"executable": {"number": number}}
        self.strange.append(where)
        return 404, {}, None

    def _item(self, item: int) -> dict[str, Any]:
        job = "/".join(f"job/{part}" for part in self.job.split("/"))
        why = "Waiting for next available executor"
        return {"id": item, "why": why, "task": {"url": f"{self.url}/{job}/"}, **_actions(self.queue[item])}


def parameters_of(build: dict[str, Any]) -> dict[str, str]:
    """What a build was asked for."""
    return {each["name"]: each["value"] for each in build["actions"][1]["parameters"]}


def _actions(parameters: dict[str, str]) -> dict[str, Any]:
    listed = [{"name": name, "value": value} for name, value in parameters.items()]
    return {"actions": [{}, {"parameters": listed}]}
