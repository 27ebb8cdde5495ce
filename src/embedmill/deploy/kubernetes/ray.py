"""A cluster of Ray on Kubernetes, for `kubectl apply --kustomize FOLDER/ray` where KubeRay 1.5 runs.

Each family of the section `kubernetes` is a group of workers, of none at first: Ray's autoscaler makes a pod
when an actor waits for one. Who comes without the token is refused, and from elsewhere does not come at all.
Fields: ray.io/v1, as KubeRay's CRD has them. What of it was checked how: docs/decisions/0042.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedmill.deploy.kubernetes.batch import (
    API_PORTS,
    DNS_PORT,
    common_labels,
    headed,
    priority_class,
    service_account,
)
from embedmill.deploy.kubernetes.kustomized import kustomized
from embedmill.deploy.yaml_files import write_folder
from embedmill.engines.kubernetes.manifest import (
    TEMPORARY,
    affinity,
    confined_container,
    confined_pod,
    mounted_claims,
    mounts_of,
)
from embedmill.engines.ray.bridge import SETTINGS
from embedmill.engines.ray.node import MIB
from embedmill.errors import SpecError
from embedmill.fleet.cluster import families_of, image_of, settings
from embedmill.fleet.nodes import STORE_MIB
from embedmill.spec import load_images_spec
from embedmill.spec.kubernetes import FamilySpec
from embedmill.spec.ray import IMAGE_LABEL
from embedmill.spec.rollout import RayDeployReport

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from embedmill.deploy.yaml_files import Resource
    from embedmill.engines.kubernetes.manifest import Family
    from embedmill.spec import ImageSpec, PipelineSpec
    from embedmill.spec.kubernetes import KubernetesSpec

HEAD_PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001}
DRIVER_PORTS = (8265, 10001)
NODE_PORT = 6380
"""Of the raylet, the same in every pod, so that a probe finds it."""
OWN_COMMAND = {"ray.io/overwrite-container-cmd": "true"}
"""KubeRay's own command begins with a login shell in some versions, which forgets the image's PATH."""
START = "exec $KUBERAY_GEN_RAY_START_CMD"
IDLE_S = 300
OWN_MIB = 1024 + STORE_MIB
"""What Ray itself may take of a pod's memory, beside what a family's workers may."""
HEAD_CPUS, HEAD_MEMORY_MIB, HEAD_DISK_MIB = 2, 4096, 8192


@dataclass(frozen=True)
class RaySettings:
    """What the section `kubernetes` does not say. `head_image`: by its name in images.yaml."""

    name: str = "embedmill"
    token_secret: str = "embedmill-ray"  # noqa: S105 - its name
    head_image: str | None = None


def deploy_ray(folder: Path, spec: PipelineSpec, root: Path, chosen: RaySettings) -> RayDeployReport:
    """Write the manifests.

    Raises:
        SpecError: There is no section `kubernetes`, an image is unknown or has no Ray, or two have different
            ones, or the folder has something else.
        StoreError: It cannot be written.
    """
    section = settings(spec)
    images = _images(section, root)
    version = _version(images)
    families = families_of(section, root)
    head = _head_image(chosen, section, root) or next(iter(images.values()))
    _version({**images, "of the head": head})
    made = {
        "priority-class": priority_class(section),
        "service-account-worker": service_account(section.service_account, "worker"),
        "network-policy-ray": _everybody(chosen, section),
        "network-policy-ray-head": _head_alone(chosen),
        "ray-cluster": _cluster(chosen, section, families, head.image, version),
    }
    return RayDeployReport(
        cluster=chosen.name,
        namespace=section.namespace,
        ray=version,
        groups={name: family.workers for name, family in section.families.items()},
        folder=str(folder),
        files=tuple(write_folder(folder, kustomized("ray", section.namespace, made))),
    )


def _images(section: KubernetesSpec, root: Path) -> dict[str, ImageSpec]:
    images = load_images_spec(root / section.images)
    return {family.image or name: image_of(name, family, images) for name, family in section.families.items()}


def _head_image(chosen: RaySettings, section: KubernetesSpec, root: Path) -> ImageSpec | None:
    if chosen.head_image is None:
        return None
    family = FamilySpec(image=chosen.head_image)
    return image_of("--head-image", family, load_images_spec(root / section.images))


def _version(images: Mapping[str, ImageSpec]) -> str:
    """The version of Ray that all have."""
    without = [name for name, image in images.items() if image.ray is None]
    if without:
        raise SpecError(
            f"image {without[0]}: has no Ray", hint="`embedmill images render … --ray VERSION` makes one"
        )
    found = {image.ray: name for name, image in images.items()}
    if len(found) > 1:
        said = ", ".join(f"{name} has {version}" for version, name in found.items())
        raise SpecError(f"images with different versions of Ray: {said}", hint="a cluster has one")
    return str(next(iter(found)))


def _cluster(
    chosen: RaySettings, section: KubernetesSpec, families: Mapping[str, Family], head: str, version: str
) -> Resource:
    made = headed("ray.io/v1", "RayCluster", chosen.name, "ray")
    made["metadata"]["annotations"] = dict(OWN_COMMAND)
    return {
        **made,
        "spec": {
            "rayVersion": version,
            "enableInTreeAutoscaling": True,
            "autoscalerOptions": {
                "version": "v2",
                "upscalingMode": "Default",
                "idleTimeoutSeconds": IDLE_S,
                "imagePullPolicy": "IfNotPresent",
                "securityContext": confined_container(),
                "env": _authentication(chosen),
            },
            "headGroupSpec": {
                "serviceType": "ClusterIP",
                "rayStartParams": {
                    "num-cpus": "0",
                    "dashboard-host": "0.0.0.0",  # noqa: S104 - its pod's; who may ask is below
                    **_start(HEAD_MEMORY_MIB - OWN_MIB),
                },
                "template": _head_template(chosen, section, head),
            },
            "workerGroupSpecs": [
                _group(chosen, section, family, section.families[name].image or name)
                for name, family in families.items()
            ],
        },
    }


def _group(chosen: RaySettings, section: KubernetesSpec, family: Family, image: str) -> dict[str, Any]:
    return {
        "groupName": family.name,
        "replicas": 0,
        "minReplicas": 0,
        "maxReplicas": section.families[family.name].workers,
        "labels": {IMAGE_LABEL: image},
        "rayStartParams": {
            "num-cpus": str(family.cpus),
            "num-gpus": str(family.accelerators.get("nvidia.com/gpu", 0)),
            **_start(family.memory_mib),
        },
        "template": _worker_template(chosen, section, family),
    }


def _start(actors_mib: int) -> dict[str, str]:
    """What every node has in common. `actors_mib`: memory for actors, beside Ray's own."""
    return {
        "node-manager-port": str(NODE_PORT),
        "memory": str(actors_mib * MIB),
        "object-store-memory": str(STORE_MIB * MIB),
    }


def _head_template(chosen: RaySettings, section: KubernetesSpec, image: str) -> Resource:
    """KubeRay makes the ServiceAccount by which its autoscaler asks for pods: none is named here."""
    container = _container(chosen, section, "ray-head", image, HEAD_PORTS["gcs-server"], drain_s=0)
    container["ports"] = [
        {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in HEAD_PORTS.items()
    ]
    container["resources"] = _resources(HEAD_CPUS, HEAD_MEMORY_MIB, HEAD_DISK_MIB, {})
    return {
        "metadata": {"labels": common_labels("ray-head")},
        "spec": {**_pod(section, HEAD_DISK_MIB), "containers": [container]},
    }


def _worker_template(chosen: RaySettings, section: KubernetesSpec, family: Family) -> Resource:
    container = _container(chosen, section, "ray-worker", family.image, NODE_PORT, drain_s=section.grace_s)
    memory_mib = family.memory_mib + OWN_MIB
    container["resources"] = _resources(family.cpus, memory_mib, family.disk_mib, family.accelerators)
    pod = {
        **_pod(section, family.disk_mib),
        "serviceAccountName": section.service_account,
        "automountServiceAccountToken": False,
        "priorityClassName": section.priority_class,
        "containers": [container],
    }
    if family.accelerators:
        pod["tolerations"] = [
            {"key": name, "operator": "Exists", "effect": "NoSchedule"} for name in family.accelerators
        ]
    if family.node_labels:
        pod["nodeSelector"] = dict(family.node_labels)
    if family.node_terms:
        pod["affinity"] = {"nodeAffinity": affinity(family)}
    return {"metadata": {"labels": common_labels("ray-worker")}, "spec": pod}


def _pod(section: KubernetesSpec, disk_mib: int) -> Resource:
    return {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": section.grace_s + 10,
        "securityContext": confined_pod(),
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": f"{disk_mib}Mi"}},
            *mounted_claims(section.mounts),
        ],
    }


def _container(
    chosen: RaySettings, section: KubernetesSpec, name: str, image: str, port: int, *, drain_s: int
) -> Resource:
    probe = {"tcpSocket": {"port": port}, "periodSeconds": 10, "timeoutSeconds": 5}
    variables = {
        "HOME": TEMPORARY,
        "EMBEDMILL_CACHE": f"{TEMPORARY}/embedmill",
        "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(drain_s),
        **SETTINGS,
    }
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c"],
        "args": [START],
        "env": [
            *({"name": each, "value": value} for each, value in variables.items()),
            *_authentication(chosen),
        ],
        "startupProbe": {**probe, "failureThreshold": 30},
        "readinessProbe": {**probe, "failureThreshold": 3},
        "livenessProbe": {**probe, "failureThreshold": 12},
        "securityContext": confined_container(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "tmp", "mountPath": TEMPORARY}, *mounts_of(section.mounts)],
    }


def _authentication(chosen: RaySettings) -> list[dict[str, Any]]:
    """The token by reference; every version of KubeRay takes it so."""
    reference = {"name": chosen.token_secret, "key": "auth_token"}
    return [
        {"name": "RAY_AUTH_MODE", "value": "token"},
        {"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": reference}},
    ]


def _resources(cpus: int, memory_mib: int, disk_mib: int, more: Mapping[str, int]) -> dict[str, Any]:
    wanted = {
        "cpu": str(cpus),
        "memory": f"{memory_mib}Mi",
        "ephemeral-storage": f"{disk_mib + 256}Mi",
        **{name: str(count) for name, count in more.items()},
    }
    return {"requests": dict(wanted), "limits": dict(wanted)}


def _everybody(chosen: RaySettings, section: KubernetesSpec) -> Resource:
    """Pods of the cluster reach each other on every port; out: names, and where the store listens."""
    own = {"podSelector": {"matchLabels": {"ray.io/cluster": chosen.name}}}
    names = [{"port": DNS_PORT, "protocol": protocol} for protocol in ("UDP", "TCP")]
    asked = [{"port": port, "protocol": "TCP"} for port in section.ports]
    return {
        **headed("networking.k8s.io/v1", "NetworkPolicy", f"{chosen.name}-ray", "ray"),
        "spec": {
            **own,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [own]}],
            "egress": [{"to": [own]}, {"ports": names}, {"ports": asked}],
        },
    }


def _head_alone(chosen: RaySettings) -> Resource:
    """Beside the cluster, who drives runs asks the head; the head's autoscaler asks the API server."""
    driver = {"podSelector": {"matchLabels": common_labels("controller")}}
    labels = {"ray.io/cluster": chosen.name, "ray.io/node-type": "head"}
    return {
        **headed("networking.k8s.io/v1", "NetworkPolicy", f"{chosen.name}-ray-head", "ray"),
        "spec": {
            "podSelector": {"matchLabels": labels},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"from": [driver], "ports": [{"port": port, "protocol": "TCP"} for port in DRIVER_PORTS]}
            ],
            "egress": [{"ports": [{"port": port, "protocol": "TCP"} for port in API_PORTS]}],
        },
    }
