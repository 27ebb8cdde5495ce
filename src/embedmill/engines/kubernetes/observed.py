"""What Jobs and their pods say of worker loops. Pure: documents of the API in, states out.

An index's newest pod speaks for it until the Job says that the index is done or has failed for good.
Sources: kubernetes.io, "Jobs", "Pod Lifecycle", "Disruptions" (the condition DisruptionTarget).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from embedmill.engines.kubernetes.manifest import CONTAINER, GENERATION, WORKER, Slots
from embedmill.errors import ERROR

Document = Mapping[str, Any]
YIELDED, CANNOT_WORK, LOST, DELETED = 75, 42, 255, -15
JOB_NAME, JOB_INDEX = "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index"
SKEW = timedelta(seconds=60)
"""How far the cluster's clock may be from this one."""
PATIENCE = timedelta(seconds=300)
"""How long a pod may be unable to start, as when a registry gives no answer."""
CANNOT_START = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
    }
)
LAST_SIGNAL = 64


@dataclass(frozen=True)
class Seen:
    """What is known of one loop: `exit_code` None while it runs or waits; `said` has words about either.

    `final`: the cluster will not start it again. `waits`: no node has taken it. `witness`: the pod or Job
    that tells.
    """

    job: str
    start: int
    exit_code: int | None
    said: str = ""
    final: bool = False
    witness: str = ""
    waits: bool = False


def observed(jobs: Sequence[Document], pods: Sequence[Document], now: datetime) -> dict[str, Seen]:
    """The newest start of every loop, by its name. A Job that is being deleted has none."""
    by_index: dict[tuple[str, int], list[Document]] = defaultdict(list)
    for pod in pods:
        index = _index(pod)
        if index is not None:
            by_index[pod["metadata"].get("labels", {}).get(JOB_NAME, ""), index].append(pod)
    found: dict[str, Seen] = {}
    for job in sorted((each for each in jobs if not is_going(each)), key=start_of):
        for index, worker in enumerate(slots_in(job).names()):
            found[worker] = _seen(job, index, by_index[job["metadata"]["name"], index], now)
    return found


def slots_in(job: Document) -> Slots:
    """The loops of a Job."""
    notes = job["metadata"].get("annotations") or {}
    return Slots(notes.get(WORKER, job["metadata"]["name"]), job["spec"].get("completions") or 1)


def start_of(job: Document) -> int:
    """Which start of its loops a Job is."""
    return int((job["metadata"].get("annotations") or {}).get(GENERATION, 1))


def is_going(job: Document) -> bool:
    """Whether a Job is being deleted."""
    return job["metadata"].get("deletionTimestamp") is not None


def indexes(text: str | None) -> Iterator[int]:
    """`1,3-5` is 1, 3, 4, 5: how a Job's status names indexes."""
    for part in (text or "").split(","):
        if part:
            first, _, last = part.partition("-")
            yield from range(int(first), int(last or first) + 1)


def _seen(job: Document, index: int, pods: Sequence[Document], now: datetime) -> Seen:
    name, start, status = job["metadata"]["name"], start_of(job), job.get("status") or {}
    over = _condition(status, "Failed") or _condition(status, "FailureTarget")
    if index in indexes(status.get("completedIndexes")) or _condition(status, "Complete"):
        return Seen(name, start, 0, final=True, witness=name)
    newest = max(pods, key=_age, default=None)
    final = index in indexes(status.get("failedIndexes")) or over is not None
    if newest is None:
        words = f"{name}: {over.get('message') or over.get('reason')}" if over else ""
        return Seen(name, start, LOST if final else None, words, final, name, waits=not final)
    code, words = _of_pod(newest, now)
    if final and code is None:
        code, words = LOST, f"{name}: its Job has ended, and pod {newest['metadata']['name']} has not"
    waits = code is None and (newest.get("status") or {}).get("phase") == "Pending"
    return Seen(name, start, code, words, final, newest["metadata"].get("uid", ""), waits)


def _of_pod(pod: Document, now: datetime) -> tuple[int | None, str]:
    """The exit code of a pod's loop, None while there is none; and words about it."""
    status, name = pod.get("status") or {}, pod["metadata"]["name"]
    if status.get("phase") == "Succeeded":
        return 0, ""
    if status.get("phase") == "Failed":
        return _of_failed(status, name)
    gone = pod["metadata"].get("deletionTimestamp")
    if gone is not None and _time(gone) + SKEW < now:
        node = pod.get("spec", {}).get("nodeName", "its node")
        return LOST, f"pod {name} should have ended at {gone}, and {node} does not say that it has"
    waiting = _waiting(status)
    if (
        waiting
        and waiting[0] in CANNOT_START
        and _time(pod["metadata"]["creationTimestamp"]) + PATIENCE < now
    ):
        return CANNOT_WORK, f"pod {name} cannot start: {': '.join(filter(None, waiting))}"
    unscheduled = _condition(status, "PodScheduled", "False")
    return None, str(unscheduled.get("message", "")) if unscheduled else ": ".join(filter(None, waiting))


def _of_failed(status: Document, name: str) -> tuple[int, str]:
    ended = _terminated(status)
    last = _last_line(ended.get("message", ""))
    disrupted = _condition(status, "DisruptionTarget")
    if disrupted is not None:
        why = f"{disrupted.get('reason', 'disrupted')}: {disrupted.get('message', '')}".strip(": ")
        return YIELDED, f"pod {name} was taken away: {why}{f'; {last}' if last else ''}"
    code = ended.get("exitCode")
    why = ended.get("reason") or status.get("reason") or ""
    if why in {"", "Error", "Completed"}:
        said = last or status.get("message") or ""
    else:
        said = f"{why}: {last or status.get('message') or ''}".strip(": ")
    return _as_subprocess(code) if code is not None else LOST, said


def _as_subprocess(code: int) -> int:
    """Minus the signal's number where one ended it, as of processes of this machine."""
    return 128 - code if 128 < code <= 128 + LAST_SIGNAL else code


def _terminated(status: Document) -> Document:
    for container in status.get("containerStatuses") or ():
        if container.get("name") == CONTAINER:
            return (container.get("state") or {}).get("terminated") or {}
    return {}


def _waiting(status: Document) -> tuple[str, str] | tuple[()]:
    for container in status.get("containerStatuses") or ():
        found = (container.get("state") or {}).get("waiting")
        if found:
            return found.get("reason", ""), found.get("message", "")
    return ()


def _condition(status: Document, kind: str, value: str = "True") -> Document | None:
    for each in status.get("conditions") or ():
        if each.get("type") == kind and each.get("status") == value:
            found: Document = each
            return found
    return None


def _last_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[-1].strip().removeprefix(ERROR) if lines else ""


def _index(pod: Document) -> int | None:
    """By its annotation; newer clusters have it as a label, too."""
    metadata = pod["metadata"]
    text = (metadata.get("annotations") or {}).get(JOB_INDEX) or (metadata.get("labels") or {}).get(JOB_INDEX)
    return int(text) if text is not None and text.isdigit() else None


def _age(pod: Document) -> tuple[str, bool]:
    """The newer the larger; of one second, the one that has not ended."""
    ended = (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}
    return pod["metadata"].get("creationTimestamp", ""), not ended


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
