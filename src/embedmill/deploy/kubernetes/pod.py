"""The pod of one release: an init container fetches it, one container serves it.

Model, search and API are one process, so that no version of one can meet another version of the other. The
release comes from the store into a volume of the pod's own, which the server only reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedmill.deploy.kubernetes.plan import ServingPlan
    from embedmill.deploy.yaml_files import Resource

PORT = 8080
USER = 10001
RELEASE, TEMPORARY, KEYS = "/release", "/tmp", "/etc/embedmill/keys"  # noqa: S108 - a volume of the pod's own
TEMPORARY_MIB = 256
FETCH_MEMORY_MIB = 512
PERIOD_S = 5


def labels(plan: ServingPlan) -> dict[str, str]:
    """What the pods of every release of a deployment share: what its Service asks for."""
    return {"app.kubernetes.io/name": "embedmill", "app.kubernetes.io/instance": plan.name}


def release_labels(plan: ServingPlan) -> dict[str, str]:
    """Which release a thing is of; the digest is cut, since a label has 63 characters at most."""
    return labels(plan) | {
        "app.kubernetes.io/component": "serving",
        "app.kubernetes.io/version": str(plan.number),
        "embedmill/release-number": str(plan.number),
        "embedmill/model": plan.package_digest[:32],
    }


def release_notes(plan: ServingPlan) -> dict[str, str]:
    """The release's name and whole digests."""
    return {
        "embedmill/release": plan.release,
        "embedmill/manifest-digest": plan.manifest_digest,
        "embedmill/model-digest": plan.package_digest,
    }


def pod_template(plan: ServingPlan, selector: dict[str, str]) -> Resource:
    """`spec.template` of a Deployment with this selector."""
    return {
        "metadata": {"labels": release_labels(plan) | selector, "annotations": release_notes(plan)},
        "spec": {
            "serviceAccountName": plan.name,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": plan.grace_s,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "topologySpreadConstraints": [
                _spread(plan, key) for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
            ],
            "initContainers": [fetching(plan)],
            "containers": [serving(plan)],
            "volumes": [
                {"name": "release", "emptyDir": {"sizeLimit": mib(plan.sizes.disk)}},
                {"name": "tmp", "emptyDir": {"sizeLimit": mib(TEMPORARY_MIB)}},
                {"name": "keys", "secret": {"secretName": plan.settings.keys_secret, "defaultMode": 0o440}},
            ],
        },
    }


def fetching(plan: ServingPlan) -> Resource:
    """The init container; one that is restarted goes on where it was."""
    found = _container(plan, "fetch", memory=FETCH_MEMORY_MIB)
    pinned = ["--release", str(plan.number), "--manifest", plan.manifest_digest]
    found["args"] = ["fetch", plan.pipeline_url, *pinned, "--to", RELEASE]
    if plan.settings.store_secret:
        found["envFrom"] = [{"secretRef": {"name": plan.settings.store_secret}}]
    found["volumeMounts"] = [
        {"name": "release", "mountPath": RELEASE},
        {"name": "tmp", "mountPath": TEMPORARY},
    ]
    return found


def serving(plan: ServingPlan) -> Resource:
    """The container that answers; it listens only once its release has proven itself."""
    found = _container(plan, "serve", memory=plan.sizes.memory)
    found["args"] = serve_arguments(plan, "cpu")
    found["ports"] = [{"name": "http", "containerPort": PORT}]
    found["startupProbe"] = _probe("/readyz", failures=-(-plan.sizes.start_s // PERIOD_S))
    found["readinessProbe"] = _probe("/readyz", failures=1)
    found["livenessProbe"] = _probe("/healthz", failures=6)
    found["volumeMounts"] = [
        {"name": "release", "mountPath": RELEASE, "readOnly": True},
        {"name": "tmp", "mountPath": TEMPORARY},
        {"name": "keys", "mountPath": KEYS, "readOnly": True},
    ]
    return found


def serve_arguments(plan: ServingPlan, device: str) -> list[str]:
    """The server's command line, behind `embedmill`."""
    settings = plan.settings
    return [
        *("serve", RELEASE, "--host", "0.0.0.0", "--port", str(PORT), "--device", device),  # noqa: S104
        *("--threads", str(settings.cpus), "--drain", str(settings.drain_s), "--keys", f"{KEYS}/keys"),
    ]


def _container(plan: ServingPlan, name: str, *, memory: int) -> Resource:
    resources = {
        "cpu": str(plan.settings.cpus),
        "memory": mib(memory),
        "ephemeral-storage": mib(plan.sizes.disk + TEMPORARY_MIB),
    }
    return {
        "name": name,
        "image": plan.settings.image,
        "imagePullPolicy": "IfNotPresent",
        "env": [
            {"name": "HOME", "value": TEMPORARY},
            {"name": "EMBEDMILL_CACHE", "value": f"{TEMPORARY}/embedmill"},
        ],
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _probe(path: str, *, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": PERIOD_S,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }


def _spread(plan: ServingPlan, key: str) -> dict[str, Any]:
    """Evenly, but rather two on one host than one that waits."""
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels(plan)},
        "matchLabelKeys": ["pod-template-hash"],
    }


def mib(count: int) -> str:
    """A quantity, as Kubernetes writes it."""
    return f"{count}Mi"
