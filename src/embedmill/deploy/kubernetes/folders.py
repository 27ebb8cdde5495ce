"""The folder of manifests, for `kubectl apply --kustomize FOLDER/overlays/…`.

    base/                         one release, on processors, replaced by a rolling update
    overlays/cpu, overlays/gpu    the same; gpu asks for one device a pod
    overlays/blue-green/both      this release and another one, side by side, each under its number
    overlays/blue-green/before    … and the Service asks the other one
    overlays/blue-green/after     … and the Service asks this one

A release's number is in the name and the selector of its Deployment in blue-green: nobody keeps a record of
which colour is live, and two numbers are never one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.deploy.kubernetes import objects, pod
from embedmill.deploy.kubernetes.kustomized import kustomized
from embedmill.deploy.yaml_files import write_folder, yaml_bytes
from embedmill.errors import SpecError
from embedmill.spec.rollout import ServingDeployReport

if TYPE_CHECKING:
    from pathlib import Path

    from embedmill.deploy.kubernetes.plan import ServingPlan
    from embedmill.deploy.yaml_files import Resource

NUMBER = "embedmill/release-number"
GPU_IMAGE = b"""\
# The image of `embedmill deploy image` computes on processors alone. Here the base must name one of your own,
# with embedmill[cloud,serve,faiss] and the model's runtime for CUDA, such as onnxruntime-gpu, CUDA and cuDNN.
"""
IN_PLACE = b"""\
# An update takes a pod away before it starts another, which gets its GPU: no spare one is needed.
"""
SPARE = b"""\
# An update starts a pod before it takes the only one away: it needs a spare GPU, and waits for one.
"""
ROLLOUT = "embedmill/rollout"
"""Keeps the pods of the base and those of blue-green apart: who changes from one to the other has both."""


def deploy_serving(folder: Path, plan: ServingPlan, beside: ServingPlan | None = None) -> ServingDeployReport:
    """Write the manifests of a release, and with `beside` those of a switch between the two.

    Raises:
        SpecError: Both are one release, or the folder has something else in it.
        StoreError: It cannot be written.
    """
    files = {**_base(plan), **_cpu(plan), **_gpu(plan)}
    if beside is not None:
        files |= _blue_green(plan, beside)
    return ServingDeployReport(
        name=plan.name,
        release=plan.release,
        number=plan.number,
        beside=None if beside is None else beside.number,
        folder=str(folder),
        files=tuple(write_folder(folder, files)),
        memory_mib=plan.sizes.memory,
        disk_mib=plan.sizes.disk,
    )


def _base(plan: ServingPlan) -> dict[str, bytes]:
    own = pod.labels(plan) | {ROLLOUT: "rolling"}
    return kustomized(
        "base",
        plan.settings.namespace,
        {
            **_shared(plan),
            "deployment": objects.deployment(plan, plan.name, own),
            "service": objects.service(plan, own),
            "pod-disruption-budget": objects.disruption_budget(plan, plan.name, own),
            "horizontal-pod-autoscaler": objects.autoscaler(plan, plan.name),
        },
    )


def _shared(plan: ServingPlan) -> dict[str, Resource]:
    return {
        "service-account": objects.service_account(plan),
        "network-policy": objects.network_policy(plan),
    }


def _cpu(plan: ServingPlan) -> dict[str, bytes]:
    return kustomized("overlays/cpu", plan.settings.namespace, {}, more=["../../base"])


def _gpu(plan: ServingPlan) -> dict[str, bytes]:
    """One device a pod, which the device plugin hands out; nothing is mounted from the host."""
    device = {"nvidia.com/gpu": "1"}
    several = plan.settings.replicas > 1
    rolling = {"maxUnavailable": 1, "maxSurge": 0} if several else {"maxUnavailable": 0, "maxSurge": 1}
    patch = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": plan.name},
        "spec": {
            "strategy": {"rollingUpdate": rolling},
            "template": {
                "spec": {
                    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
                    "containers": [
                        {
                            "name": "serve",
                            "args": pod.serve_arguments(plan, "cuda:0"),
                            "resources": {"requests": device, "limits": device},
                        }
                    ],
                }
            },
        },
    }
    return {
        **kustomized(
            "overlays/gpu", plan.settings.namespace, {}, more=["../../base"], patches=["deployment.yaml"]
        ),
        "overlays/gpu/deployment.yaml": GPU_IMAGE + (IN_PLACE if several else SPARE) + yaml_bytes(patch),
    }


def _blue_green(plan: ServingPlan, beside: ServingPlan) -> dict[str, bytes]:
    if plan.number == beside.number:
        raise SpecError(f"release {plan.number} cannot stand beside itself", hint="name another one")
    both = _shared(plan)
    for each in (beside, plan):
        both[f"deployment-r{each.number}"] = objects.deployment(each, each.numbered, _selector(each))
        both[f"pod-disruption-budget-r{each.number}"] = objects.disruption_budget(
            each, each.numbered, _selector(each)
        )
        both[f"horizontal-pod-autoscaler-r{each.number}"] = objects.autoscaler(each, each.numbered)
    files = kustomized("overlays/blue-green/both", plan.settings.namespace, both)
    for name, asked in (("before", beside), ("after", plan)):
        switch = {"service": objects.service(plan, _selector(asked))}
        files |= kustomized(f"overlays/blue-green/{name}", plan.settings.namespace, switch, more=["../both"])
    return files


def _selector(plan: ServingPlan) -> dict[str, str]:
    return pod.labels(plan) | {ROLLOUT: "blue-green", NUMBER: str(plan.number)}
