"""The folder of manifests of a pipeline's work on a cluster, for `kubectl apply --kustomize FOLDER/base`.

base/    what Jobs need (PriorityClass, ServiceAccounts, a Role, NetworkPolicies), and the nightly CronJob
jobs/    the Jobs of one run, as `embedmill run --engine kubernetes` submits them, to be read or applied
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from embedmill.catalog.files import IN_STORE
from embedmill.deploy.kubernetes.kustomized import kustomized
from embedmill.deploy.yaml_files import write_folder
from embedmill.engines.kubernetes.manifest import (
    TEMPORARY,
    confined_container,
    confined_pod,
    job,
    slots_of,
)
from embedmill.errors import SpecError
from embedmill.fleet.cluster import check_store, cluster_of, families_of, settings
from embedmill.spec.rollout import BatchDeployReport
from embedmill.store import open_store
from embedmill.store.opening import is_shared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedmill.deploy.yaml_files import Resource
    from embedmill.spec import PipelineSpec
    from embedmill.spec.kubernetes import KubernetesSpec, NightlySpec
    from embedmill.types import Placement

LOWEST = -1000
"""Below every pod that has no PriorityClass: whoever else needs a node gets it."""
ENDS = (2, 3, 4)
"""Exit codes of a run that another one would have again."""
CRON_NAME = 52
"""Characters of its name, at most: its Jobs have eleven more."""
CONTROLLER = "controller"
PLAIN = re.compile(r"[a-z0-9-]*[a-z0-9]")
API_PORTS = (443, 6443)
DNS_PORT = 53


def deploy_batch(
    folder: Path,
    spec: PipelineSpec,
    root: Path,
    file: str,
    run: tuple[str, Sequence[Placement]] | None = None,
) -> BatchDeployReport:
    """Write the manifests. `file` is the name of pipeline.yaml; `run` the URL of a run and its places.

    Raises:
        SpecError: There is no section `kubernetes`, an image is unknown, pods cannot open the store, or the
            folder has something else.
        StoreError: It cannot be written.
    """
    section = settings(spec, file)
    _check_store(section, spec.store, root)
    families_of(section, root)  # every image is there and pinned, whether Jobs are written or not
    files = kustomized("base", section.namespace, _base(spec.name, section, file))
    jobs = {} if run is None else _jobs(section, root, *run)
    if jobs:
        files |= kustomized("jobs", section.namespace, jobs)
    return BatchDeployReport(
        pipeline=spec.name,
        namespace=section.namespace,
        run=None if run is None else run[0],
        nightly=None if section.nightly is None else section.nightly.schedule,
        folder=str(folder),
        files=tuple(write_folder(folder, files)),
    )


def _check_store(section: KubernetesSpec, store: str, root: Path) -> None:
    """Refuse what `run` would, here or in the nightly pod, whose pipeline.yaml lies elsewhere."""
    folders = [root, *([Path(section.nightly.folder)] if section.nightly is not None else [])]
    urls = [store] if "://" in store else [open_store(store, relative_to=each).url for each in folders]
    if not any(is_shared(url, section.mounts) for url in urls):
        check_store(section, urls[0])


def _jobs(
    section: KubernetesSpec, root: Path, run_url: str, places: Sequence[Placement]
) -> dict[str, Resource]:
    families, made = families_of(section, root), {}
    for name, family in families.items():
        own = [place for place in places if place.image == name]
        for slots in slots_of([place.worker for place in own]):
            made[f"job-{name}"] = job(cluster_of(section), family, run_url, slots, own[0])
    if not made:
        raise SpecError(f"run {run_url}: has no shard to work on", hint="leave --run out")
    return made


def _base(pipeline: str, section: KubernetesSpec, file: str) -> dict[str, Resource]:
    driver = controller_name(section)
    found = {
        "priority-class": priority_class(section),
        "service-account-worker": service_account(section.service_account, "worker"),
        "network-policy-worker": _network_policy(
            _policy_name(section.service_account, pipeline), "worker", section.ports
        ),
        "service-account-controller": service_account(driver, "controller"),
        "network-policy-controller": _network_policy(
            _policy_name(driver, pipeline), "controller", (*section.ports, *API_PORTS)
        ),
        "role": _role(driver),
        "role-binding": _role_binding(driver),
    }
    if section.nightly is not None:
        found["cron-job"] = _cron_job(pipeline, section, section.nightly, file)
    return found


def controller_name(section: KubernetesSpec) -> str:
    """The ServiceAccount of what drives runs; it alone may make Jobs."""
    return f"{section.service_account}-controller"


def headed(version: str, kind: str, name: str, component: str) -> Resource:
    """The beginning of a resource."""
    metadata = {"name": name, "labels": common_labels(component)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def common_labels(component: str) -> dict[str, str]:
    """What all that is rendered for a component has."""
    return {"app.kubernetes.io/name": "embedmill", "app.kubernetes.io/component": component}


def priority_class(section: KubernetesSpec) -> Resource:
    """Such pods take no node from anybody, and give theirs to whoever has a higher priority."""
    return {
        **headed("scheduling.k8s.io/v1", "PriorityClass", section.priority_class, "worker"),
        "value": LOWEST,
        "globalDefault": False,
        "preemptionPolicy": "Never",
        "description": "Work on embeddings, which may be interrupted at any time and goes on elsewhere.",
    }


def service_account(name: str, component: str) -> Resource:
    """No pod gets its token unless it asks."""
    return {**headed("v1", "ServiceAccount", name, component), "automountServiceAccountToken": False}


def _role(name: str) -> Resource:
    """Just what the engine asks."""
    return {
        **headed("rbac.authorization.k8s.io/v1", "Role", name, "controller"),
        "rules": [
            {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "delete", "list"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        ],
    }


def _role_binding(name: str) -> Resource:
    return {
        **headed("rbac.authorization.k8s.io/v1", "RoleBinding", name, "controller"),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name}],
    }


def _network_policy(name: str, component: str, ports: Sequence[int]) -> Resource:
    """In: nobody. Out: names, and where the store and images listen; of a controller, the API server too."""
    names = [{"port": DNS_PORT, "protocol": protocol} for protocol in ("UDP", "TCP")]
    asked = [{"port": port, "protocol": "TCP"} for port in dict.fromkeys(ports)]
    return {
        **headed("networking.k8s.io/v1", "NetworkPolicy", name, component),
        "spec": {
            "podSelector": {"matchLabels": common_labels(component)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [],
            "egress": [{"ports": names}, {"ports": asked}],
        },
    }


def _policy_name(account: str, pipeline: str) -> str:
    """Of one pipeline alone: policies of the same pods add up, and those of one name replace each other.

    A name that would be none, or that a controller's policy could have, ends with a digest instead.
    """
    if PLAIN.fullmatch(pipeline) and not pipeline.startswith(CONTROLLER):
        return f"{account}-{pipeline}"
    plain = pipeline.translate(str.maketrans("._", "--")).rstrip("-")
    return f"{account}-p-{plain}-{hashlib.sha256(pipeline.encode()).hexdigest()[:8]}"


def _cron_job(pipeline: str, section: KubernetesSpec, nightly: NightlySpec, file: str) -> Resource:
    """One run at a time. What may pass by itself is tried again; wrong specs, gates, and what is published
    with quarantined items end it (2, 3, 4).
    """
    return {
        **headed("batch/v1", "CronJob", _cron_name(controller_name(section), pipeline), "controller"),
        "spec": {
            "schedule": nightly.schedule,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 5,
            "jobTemplate": {
                "spec": {
                    "backoffLimit": 3,
                    "podReplacementPolicy": "Failed",
                    "podFailurePolicy": {
                        "rules": [
                            {
                                "action": "Ignore",
                                "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                            },
                            {
                                "action": "FailJob",
                                "onExitCodes": {
                                    "containerName": "run",
                                    "operator": "In",
                                    "values": list(ENDS),
                                },
                            },
                        ]
                    },
                    "template": {
                        "metadata": {"labels": common_labels("controller")},
                        "spec": _controller(section, nightly, file),
                    },
                }
            },
        },
    }


def _cron_name(driver: str, pipeline: str) -> str:
    """Of one pipeline alone: what is too long, or has what no name may have, ends with a digest of it."""
    whole = f"{driver[:30].rstrip('-.')}-{pipeline}".translate(str.maketrans("._", "--"))
    if len(whole) <= CRON_NAME and PLAIN.fullmatch(pipeline):
        return whole
    digest = hashlib.sha256(pipeline.encode()).hexdigest()[:8]
    return f"{whole[: CRON_NAME - len(digest) - 1].rstrip('-')}-{digest}"


def nowhere(spec: PipelineSpec) -> list[str]:
    """What the nightly pod looks for outside of its volumes: its image would have to have it."""
    section, found = spec.kubernetes, list[str]()
    nightly = section.nightly if section is not None else None
    if section is None or nightly is None or nightly.claim is None:
        return []
    named = {
        "catalog.source": spec.catalog.source,
        "catalog.images": spec.catalog.images,
        "model": spec.model,
        "kubernetes.images": section.images,
    }
    volumes = [nightly.folder, *section.mounts]
    for key, path in named.items():
        if path is None:
            continue
        place = posixpath.normpath(posixpath.join(nightly.folder, path))
        here = urlsplit(path).scheme == "" and not path.startswith(IN_STORE)
        if here and not any(PurePosixPath(place).is_relative_to(each) for each in volumes):
            found.append(f"the nightly pod looks for `{key}` at {place}, which is in none of its volumes")
    return found


def _controller(section: KubernetesSpec, nightly: NightlySpec, file: str) -> Resource:
    """The pod that drives a run; it alone has a token of the API server."""
    volumes: list[dict[str, Any]] = [
        {"name": "tmp", "emptyDir": {"sizeLimit": f"{nightly.disk_mib}Mi"}},
    ]
    mounts = [{"name": "tmp", "mountPath": TEMPORARY}]
    claims = dict(section.mounts) | ({nightly.folder: nightly.claim} if nightly.claim else {})
    for number, claim in enumerate(sorted(set(claims.values()))):
        volumes.append({"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": claim}})
        mounts += [
            {"name": f"claim-{number}", "mountPath": path}
            for path, named in sorted(claims.items())
            if named == claim
        ]
    resources = {
        "cpu": str(nightly.cpus),
        "memory": f"{nightly.memory_mib}Mi",
        "ephemeral-storage": f"{nightly.disk_mib + 256}Mi",
    }
    container: Resource = {
        "name": "run",
        "image": nightly.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["embedmill"],
        "args": ["run", f"{nightly.folder}/{file}", "--engine", "kubernetes", "--quiet"],
        "env": [
            {"name": "HOME", "value": TEMPORARY},
            {"name": "EMBEDMILL_CACHE", "value": f"{TEMPORARY}/embedmill"},
        ],
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "securityContext": confined_container(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    if section.secret:
        container["envFrom"] = [{"secretRef": {"name": section.secret}}]
    return {
        "restartPolicy": "Never",
        "serviceAccountName": controller_name(section),
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": section.grace_s + 60,
        "securityContext": confined_pod(),
        "containers": [container],
        "volumes": volumes,
    }
