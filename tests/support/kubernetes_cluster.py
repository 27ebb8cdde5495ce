"""A cluster of one process: a Job controller and a kubelet, which runs pods' commands as processes.

It does what these pages say, for the fields that our Jobs have, and nothing else:

- Jobs (kubernetes.io/docs/concepts/workloads/controllers/job): an Indexed Job has a pod for each index, with
  the annotation `batch.kubernetes.io/job-completion-index` and the variable JOB_COMPLETION_INDEX; failed pods
  are made again after a delay that doubles (10 s, 20 s, 40 s, … there; `backoff_s` here), with
  `podReplacementPolicy: Failed` only once they have ended; `backoffLimitPerIndex`, then the index is in
  `failedIndexes`; a Job with one has the condition Failed, reason FailedIndexes, once all others have ended.
- Pod failure policy (the same page; pkg/controller/job/pod_failure_policy.go): the first rule that fits
  decides; Ignore counts nothing and the pod is replaced, after the same delay; FailIndex ends the index.
- Pod lifecycle: Pending, Running, Succeeded or Failed; an exit code of a signal is 128 + its number. A pod
  that is deleted gets SIGTERM, and SIGKILL after its grace period; one of a Job stays until it was counted.
- Disruptions: whatever is evicted has the condition DisruptionTarget with a reason before it ends.
- Termination messages: with FallbackToLogsOnError the end of the log, 2048 bytes at most.
- Variables: `$(NAME)` in arguments is replaced, `$$` is `$`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

INDEX = "batch.kubernetes.io/job-completion-index"
JOB_NAME = "batch.kubernetes.io/job-name"
Document = dict[str, Any]


@dataclass
class Pod:
    """A pod, and the process that its container is. `lost`: its node tells nothing any more.

    `listed`: somebody has seen how it is now; how a pod failed counts from then on, so that none is replaced
    before a test could see it.
    """

    document: Document
    job: str
    index: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    kill_at: float | None = None
    lost: bool = False
    listed: bool = False
    counted: bool = False
    ended_s: float = 0.0

    @property
    def name(self) -> str:
        return str(self.document["metadata"]["name"])

    @property
    def status(self) -> Document:
        found: Document = self.document["status"]
        return found

    @property
    def phase(self) -> str:
        return str(self.status["phase"])

    @property
    def has_ended(self) -> bool:
        return self.phase in {"Succeeded", "Failed"}


@dataclass
class Index:
    """What the Job controller knows of an index; `failures` count, `ignored` do not, both delay."""

    failures: int = 0
    ignored: int = 0
    outcome: str = ""
    not_before_s: float = 0.0


@dataclass
class Cluster:
    """Jobs and pods by name. `secrets` are its Secrets; `schedules`: whether pods get a node.

    Pods of indexes in `held` get none, either.
    """

    folder: Path
    backoff_s: float = 0.3
    secrets: dict[str, Mapping[str, str]] = field(default_factory=dict)
    schedules: bool = True
    pulls: bool = True
    held: set[int] = field(default_factory=set)
    jobs: dict[str, Document] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    indexes: dict[tuple[str, int], Index] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Cluster:
        self._thread = threading.Thread(target=self._run, name="cluster", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join(120)
        for pod in self.pods.values():
            if pod.process is not None and pod.process.poll() is None:
                pod.process.kill()
                pod.process.wait()
        assert not self._thread.is_alive()

    # What the API server is asked

    def create(self, job: Document) -> None:
        job["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        job["status"] = {"startTime": now()}
        self.jobs[job["metadata"]["name"]] = job
        for index in range(job["spec"]["completions"]):
            self.indexes[job["metadata"]["name"], index] = Index()

    def delete(self, name: str) -> None:
        """In the foreground: pods first, then the Job itself."""
        self.jobs[name]["metadata"] |= {"deletionTimestamp": now(), "finalizers": ["foregroundDeletion"]}
        for pod in self.pods_of(name):
            self.delete_pod(pod)

    # What befalls pods

    def evict(self, pod: Pod, reason: str = "EvictionByEvictionAPI") -> None:
        """As `kubectl drain` does, or the scheduler (PreemptionByScheduler) for a pod of higher priority."""
        with self.lock:
            pod.status["conditions"].append(disruption(reason, "Eviction API: evicting"))
            self.delete_pod(pod)

    def lose_node(self, pod: Pod) -> None:
        """Its node is gone, and the process with it. In the end the pod is marked, and stays as it is."""
        with self.lock:
            pod.lost = True
            assert pod.process is not None
            pod.process.kill()
            pod.process.wait()
            pod.status["conditions"].append(disruption("DeletionByTaintManager", "Taint manager: deleting"))
            pod.document["metadata"]["deletionTimestamp"] = now(-120.0)

    def collect(self, pod: Pod) -> None:
        """The Node object is deleted, so the pod is, by the collector of pods: Failed, then gone."""
        with self.lock:
            pod.status["phase"] = "Failed"
            pod.ended_s = time.monotonic()

    def pods_of(self, job: str) -> list[Pod]:
        return [pod for pod in self.pods.values() if pod.job == job]

    def pod(self, worker: str) -> Pod | None:
        """The newest pod whose container runs this loop, while there is one."""
        with self.lock:
            return next((pod for pod in reversed(self.pods.values()) if worker in arguments(pod)), None)

    def delete_pod(self, pod: Pod) -> None:
        if "deletionTimestamp" in pod.document["metadata"]:
            return
        grace_s = pod.document["spec"]["terminationGracePeriodSeconds"]
        pod.document["metadata"]["deletionTimestamp"] = now(grace_s)
        if pod.process is None:
            pod.status["phase"] = "Failed"
        elif pod.process.poll() is None:
            pod.process.terminate()
            pod.kill_at = time.monotonic() + grace_s

    # The controllers

    def _run(self) -> None:
        while not self._over.wait(0.05):
            with self.lock:
                for pod in list(self.pods.values()):
                    self._kubelet(pod)
                for name in list(self.jobs):
                    self._control(name)

    def _control(self, name: str) -> None:
        job = self.jobs[name]
        for pod in self.pods_of(name):
            going = "deletionTimestamp" in pod.document["metadata"]
            if pod.has_ended and not pod.counted and (pod.listed or going or pod.phase == "Succeeded"):
                self._count(job, pod)
            if pod.has_ended and going:
                del self.pods[pod.name]
        if "deletionTimestamp" in job["metadata"]:
            if not self.pods_of(name):
                del self.jobs[name]
            return
        for index, known in self._of(name):
            live = [pod for pod in self.pods_of(name) if pod.index == index and not pod.counted]
            if not live and not known.outcome and time.monotonic() >= known.not_before_s:
                self._make_pod(job, index)
        self._judge(job)

    def _count(self, job: Document, pod: Pod) -> None:
        pod.counted = True
        known = self.indexes[pod.job, pod.index]
        if pod.phase == "Succeeded":
            known.outcome = "completed"
            return
        action = self._action(job, pod)
        known.ignored += action == "Ignore"
        known.failures += action != "Ignore"
        if action == "FailIndex" or known.failures > job["spec"]["backoffLimitPerIndex"]:
            known.outcome = "failed"
        again_s = self.backoff_s * 2 ** (known.failures + known.ignored - 1)
        known.not_before_s = time.monotonic() + min(again_s, 20 * self.backoff_s)

    def _action(self, job: Document, pod: Pod) -> str:
        ended = terminated(pod)
        for rule in job["spec"]["podFailurePolicy"]["rules"]:
            codes = rule.get("onExitCodes")
            if codes and ended and (ended["exitCode"] in codes["values"]) == (codes["operator"] == "In"):
                return str(rule["action"])
            for wanted in rule.get("onPodConditions", ()):
                if any(
                    all(each[k] == wanted[k] for k in ("type", "status")) for each in pod.status["conditions"]
                ):
                    return str(rule["action"])
        return "Count"

    def _judge(self, job: Document) -> None:
        name, status = job["metadata"]["name"], job["status"]
        outcomes = {index: known.outcome for index, known in self._of(name)}
        for outcome in ("completed", "failed"):
            named = [index for index, found in outcomes.items() if found == outcome]
            if named:
                status[f"{outcome}Indexes"] = ranges(named)
        if all(outcomes.values()) and "conditions" not in status:
            failed = "failed" in outcomes.values()
            reason = {"reason": "FailedIndexes", "message": "Job has failed indexes"} if failed else {}
            kinds = ("FailureTarget", "Failed") if failed else ("SuccessCriteriaMet", "Complete")
            status["conditions"] = [{"type": kind, "status": "True", **reason} for kind in kinds]

    def _of(self, name: str) -> Iterator[tuple[int, Index]]:
        return ((index, known) for (job, index), known in self.indexes.items() if job == name)

    def _make_pod(self, job: Document, index: int) -> None:
        name = f"{job['metadata']['name']}-{index}-{uuid.uuid4().hex[:5]}"
        labels = {**job["spec"]["template"]["metadata"]["labels"], JOB_NAME: job["metadata"]["name"]}
        document = {
            "metadata": {
                "name": name,
                "uid": str(uuid.uuid4()),
                "creationTimestamp": now(),
                "labels": labels,
                "annotations": {INDEX: str(index)},
            },
            "spec": job["spec"]["template"]["spec"] | {"nodeName": f"node-{index}"},
            "status": {"phase": "Pending", "conditions": []},
        }
        folder = self.folder / name
        folder.mkdir(parents=True)
        self.pods[name] = Pod(document, job["metadata"]["name"], index, folder)

    # The kubelet

    def _kubelet(self, pod: Pod) -> None:
        if pod.lost or pod.has_ended:
            return
        if pod.process is None:
            self._start(pod)
            return
        code = pod.process.poll()
        if code is not None:
            self._ended(pod, code)
        elif pod.kill_at is not None and time.monotonic() >= pod.kill_at:
            pod.process.kill()

    def _start(self, pod: Pod) -> None:
        container = pod.document["spec"]["containers"][0]
        missing = [each["secretRef"]["name"] for each in container.get("envFrom", ())]
        if not self.schedules or pod.index in self.held:
            message = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."
            pod.status["conditions"] = [{"type": "PodScheduled", "status": "False", "message": message}]
        elif not self.pulls:
            pod.status["containerStatuses"] = waiting("ImagePullBackOff", "Back-off pulling image")
        elif not all(name in self.secrets for name in missing):
            pod.status["containerStatuses"] = waiting("CreateContainerConfigError", "secret not found")
        else:
            environment = self._environment(pod, container)
            command = [expanded(word, environment) for word in arguments(pod)]
            with (pod.folder / "log").open("wb") as log:
                pod.process = subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=pod.folder
                )
            pod.document["status"] |= {
                "phase": "Running",
                "containerStatuses": [{"name": container["name"], "state": {}}],
            }

    def _environment(self, pod: Pod, container: Document) -> dict[str, str]:
        """The container's own, none of this process but where programs are; /tmp is a folder of the pod."""
        found = {"PATH": os.environ["PATH"], "TMPDIR": str(pod.folder)}
        for each in container.get("envFrom", ()):
            found |= self.secrets[each["secretRef"]["name"]]
        found["JOB_COMPLETION_INDEX"] = str(pod.index)
        for each in container["env"]:
            value = each.get("value")
            found[each["name"]] = pod.document["spec"]["nodeName"] if value is None else value
        return {name: re.sub(r"^/tmp(?=/|$)", str(pod.folder), value) for name, value in found.items()}

    def _ended(self, pod: Pod, code: int) -> None:
        exit_code = code if code >= 0 else 128 - code
        ended = {"exitCode": exit_code, "reason": "Error" if exit_code else "Completed", "finishedAt": now()}
        if exit_code:
            ended["message"] = (pod.folder / "log").read_bytes()[-2048:].decode(errors="replace")
        pod.status["containerStatuses"][0]["state"] = {"terminated": ended}
        pod.status["phase"] = "Failed" if exit_code else "Succeeded"


def arguments(pod: Pod) -> list[str]:
    container = pod.document["spec"]["containers"][0]
    given = [*container["command"], *container["args"]]
    return [word.replace("$(JOB_COMPLETION_INDEX)", str(pod.index)) for word in given]


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """kubernetes.io, "Define Dependent Environment Variables"; a name that is unknown stays as it is."""

    def of(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else environment.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)", of, text)


def terminated(pod: Pod) -> Document:
    found: Document = (pod.status.get("containerStatuses") or [{}])[0].get("state", {}).get("terminated", {})
    return found


def waiting(reason: str, message: str) -> list[Document]:
    return [{"name": "worker", "state": {"waiting": {"reason": reason, "message": message}}}]


def disruption(reason: str, message: str) -> Document:
    return {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}


def ranges(numbers: list[int]) -> str:
    """0, 1, 2, 5 is `0-2,5`."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][-1] + 1:
            found[-1] = [found[-1][0], number]
        else:
            found.append([number])
    return ",".join("-".join(map(str, each)) for each in found)


def now(later_s: float = 0.0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=later_s)).strftime("%Y-%m-%dT%H:%M:%SZ")


SIGKILL_CODE = 128 + signal.SIGKILL
