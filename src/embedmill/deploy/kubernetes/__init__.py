"""Manifests that serve one release on Kubernetes, or run a pipeline: for `kubectl apply --kustomize`."""

from embedmill.deploy.kubernetes.batch import deploy_batch, nowhere
from embedmill.deploy.kubernetes.folders import deploy_serving
from embedmill.deploy.kubernetes.plan import ServingPlan, Settings, plan_serving, store_port_of
from embedmill.deploy.kubernetes.ray import RaySettings, deploy_ray

__all__ = [
    "RaySettings",
    "ServingPlan",
    "Settings",
    "deploy_batch",
    "deploy_ray",
    "deploy_serving",
    "nowhere",
    "plan_serving",
    "store_port_of",
]
