"""Manifests that serve one release on Kubernetes: a folder for `kubectl apply --kustomize`."""

from embedmill.deploy.kubernetes.folders import deploy_serving
from embedmill.deploy.kubernetes.plan import ServingPlan, Settings, plan_serving

__all__ = ["ServingPlan", "Settings", "deploy_serving", "plan_serving"]
