"""A Job's manifest, made of data: an index of it is a worker loop.

What a pod's end means is decided in two places that must agree: here, by the cluster, which knows exit codes
and conditions; and in `observed`, for whoever drives the run.
Sources: kubernetes.io, "Jobs", and "Handling retriable and non-retriable pod failures".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from embedmill.types import Placement

USER = 10001
TEMPORARY = "/tmp"  # noqa: S108 - a volume of the pod's own
CONTAINER = "worker"
INDEX = "$(JOB_COMPLETION_INDEX)"
"""What Kubernetes writes the number of a pod in place of."""
RUN, FAMILY, WORKER, GENERATION = (
    "embedmill/run-id",
    "embedmill/family",
    "embedmill/worker",
    "embedmill/start",
)
YIELDS = (75, 77)
"""Ends that are no failures: the device was wanted back, or lent credentials have ended."""
HOPELESS = (1, 2, 42, 126, 127)
"""Ends that another try in the same place would not change; 126 and 127: there is no such program."""
Manifest = dict[str, Any]


class Requirement(NamedTuple):
    """Of a node's label: `operator` is In, Gt or Lt."""

    key: str
    operator: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """What the pods of one image have in common.

    `image` is by digest. `accelerators` are resources, such as `nvidia.com/gpu: 1`. A node fits if it has all
    of `node_labels`, and meets all requirements of one of `node_terms` (if there are any).
    """

    name: str
    image: str
    command: tuple[str, ...] = ("embedmill",)
    cpus: int = 2
    memory_mib: int = 4096
    disk_mib: int = 8192
    accelerators: Mapping[str, int] = field(default_factory=dict)
    node_labels: Mapping[str, str] = field(default_factory=dict)
    node_terms: tuple[tuple[Requirement, ...], ...] = ()


@dataclass(frozen=True)
class Cluster:
    """What all Jobs of a run have in common; see `KubernetesSpec`. Secrets are named, never read."""

    namespace: str = "default"
    context: str | None = None
    queue: str | None = None
    priority_class: str = "embedmill-batch"
    service_account: str = "embedmill-worker"
    secret: str | None = None
    mounts: Mapping[str, str] = field(default_factory=dict)
    retries: int = 3
    deadline_s: int = 86_400
    keep_s: int = 3600
    grace_s: int = 60


@dataclass(frozen=True)
class Slots:
    """The loops of one Job: `template` is a loop's name, with INDEX where there are several."""

    template: str
    count: int = 1

    def names(self) -> tuple[str, ...]:
        """By index."""
        return tuple(self.template.replace(INDEX, str(index)) for index in range(self.count))


def slots_of(workers: Sequence[str]) -> list[Slots]:
    """Jobs for loops of one family: one for `name-0` … `name-n`, otherwise one each."""
    prefix = workers[0].rpartition("-")[0] if workers else ""
    together = Slots(f"{prefix}-{INDEX}", len(workers))
    if prefix and len(workers) > 1 and set(together.names()) == set(workers):
        return [together]
    return [Slots(worker) for worker in workers]


def run_label(run_url: str) -> str:
    """What Jobs and pods of a run are found by, unique to the run wherever its store is."""
    return hashlib.sha256(run_url.encode()).hexdigest()[:20]


def job_name(run_url: str, family: str, slots: Slots, start: int) -> str:
    """A DNS-1123 label, the same whenever the same start is made; with an index, below 63 characters."""
    whole = "\n".join((run_url, family, slots.template, str(slots.count)))
    digest = hashlib.sha256(whole.encode()).hexdigest()[:10]
    return f"embedmill-{_plain(family)[:24].strip('-')}-{digest}-{start}"


def job(
    cluster: Cluster, family: Family, run_url: str, slots: Slots, place: Placement, start: int = 1
) -> Manifest:
    """The Job of some loops. `place` is one of theirs; `start` counts the starts of the same loops."""
    labels = _labels(run_url, family)
    queue = {"kueue.x-k8s.io/queue-name": cluster.queue} if cluster.queue else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(run_url, family.name, slots, start),
            "namespace": cluster.namespace,
            "labels": labels | queue,
            "annotations": {WORKER: slots.template, GENERATION: str(start)},
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": slots.count,
            "parallelism": slots.count,
            "backoffLimitPerIndex": cluster.retries,
            "podFailurePolicy": {"rules": _what_ends_mean()},
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": cluster.deadline_s,
            "ttlSecondsAfterFinished": cluster.keep_s,
            "template": {
                "metadata": {"labels": labels},
                "spec": _pod(cluster, family, run_url, slots, place),
            },
        },
    }


def _what_ends_mean() -> list[Manifest]:
    """The first rule that fits decides; any other failure counts towards `backoffLimitPerIndex`.

    Ignore: the pod is replaced, wherever there is room by then, and nothing is counted. That is what a yield
    needs; FailIndex or Count would use its index up. The cluster waits longer each time, up to some minutes,
    so that a place that is always wanted back is not asked for all the time.
    """
    codes = {"containerName": CONTAINER, "operator": "In"}
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": {**codes, "values": list(YIELDS)}},
        {"action": "FailIndex", "onExitCodes": {**codes, "values": list(HOPELESS)}},
    ]


def _pod(cluster: Cluster, family: Family, run_url: str, slots: Slots, place: Placement) -> Manifest:
    made: Manifest = {
        "restartPolicy": "Never",
        "serviceAccountName": cluster.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": cluster.priority_class,
        "terminationGracePeriodSeconds": cluster.grace_s,
        "securityContext": confined_pod(),
        "containers": [_container(cluster, family, run_url, slots, place)],
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": f"{family.disk_mib}Mi"}},
            *mounted_claims(cluster.mounts),
        ],
    }
    if family.accelerators:
        made["tolerations"] = [
            {"key": name, "operator": "Exists", "effect": "NoSchedule"} for name in family.accelerators
        ]
    if family.node_labels:
        made["nodeSelector"] = dict(family.node_labels)
    if family.node_terms:
        made["affinity"] = {"nodeAffinity": affinity(family)}
    return made


def affinity(family: Family) -> Manifest:
    """The `nodeAffinity` of a family's pods."""
    terms = [
        {
            "matchExpressions": [
                {"key": key, "operator": how, "values": list(values)} for key, how, values in term
            ]
        }
        for term in family.node_terms
    ]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


def _container(cluster: Cluster, family: Family, run_url: str, slots: Slots, place: Placement) -> Manifest:
    resources = {
        "cpu": str(family.cpus),
        "memory": f"{family.memory_mib}Mi",
        "ephemeral-storage": f"{family.disk_mib + 256}Mi",
        **{name: str(count) for name, count in family.accelerators.items()},
    }
    program, *more = place.command or family.command
    made: Manifest = {
        "name": CONTAINER,
        "image": family.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [literal(program)],
        "args": [*map(literal, more), *_arguments(run_url, slots, place)],
        "env": [
            *({"name": name, "value": value} for name, value in _variables(place).items()),
            {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "securityContext": confined_container(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "tmp", "mountPath": TEMPORARY}, *mounts_of(cluster.mounts)],
    }
    if cluster.secret:
        made["envFrom"] = [{"secretRef": {"name": cluster.secret}}]
    return made


def _arguments(run_url: str, slots: Slots, place: Placement) -> list[str]:
    head, index, tail = slots.template.partition(INDEX)
    words = ["worker", "--run", literal(run_url), "--name", f"{literal(head)}{index}{literal(tail)}"]
    words += ["--device", literal(place.device), "--threads", str(place.threads)]
    words += ["--where", "host=$(NODE_NAME)"]
    return [*words, *(["--where", f"image={literal(place.image)}"] if place.image else [])]


def _variables(place: Placement) -> dict[str, str]:
    return {
        "HOME": TEMPORARY,
        "EMBEDMILL_CACHE": f"{TEMPORARY}/embedmill",
        "OMP_NUM_THREADS": str(place.threads),
        "TOKENIZERS_PARALLELISM": "false",
    }


def literal(text: str) -> str:
    """As an argument in which nothing is replaced: Kubernetes expands `$(NAME)`, and writes `$$` as `$`."""
    return text.replace("$", "$$")


def confined_pod() -> Manifest:
    """The `securityContext` of pods."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def confined_container() -> Manifest:
    """The `securityContext` of containers."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }


def mounted_claims(mounts: Mapping[str, str]) -> list[Manifest]:
    """The volumes of folders, one a claim."""
    claims = sorted(set(mounts.values()))
    return [{"name": f"claim-{n}", "persistentVolumeClaim": {"claimName": c}} for n, c in enumerate(claims)]


def mounts_of(mounts: Mapping[str, str]) -> list[Manifest]:
    """Where a container has them."""
    claims = sorted(set(mounts.values()))
    return [{"name": f"claim-{claims.index(c)}", "mountPath": path} for path, c in sorted(mounts.items())]


def _labels(run_url: str, family: Family) -> dict[str, str]:
    home, _, run = run_url.rstrip("/").rpartition("/runs/")
    return {
        "app.kubernetes.io/name": "embedmill",
        "app.kubernetes.io/component": "worker",
        "embedmill/pipeline": _value(home.rpartition("/")[2]),
        "embedmill/run": _value(run),
        RUN: run_label(run_url),
        FAMILY: _value(family.name),
    }


def _value(text: str) -> str:
    """As a label's value: 63 characters at most, from a letter or digit to a letter or digit."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:63].strip("-._")


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9-]", "-", text.lower()).strip("-") or "x"
