"""Manifests that serve one release on Kubernetes, or run a pipeline: for `kubectl apply --kustomize`."""

from embedmill.deploy.kubernetes.batch import deploy_batch
from embedmill.deploy.kubernetes.folders import deploy_serving
from embedmill.deploy.kubernetes.plan import ServingPlan, Settings, plan_serving

__all__ = ["ServingPlan", "Settings", "deploy_batch", "deploy_serving", "plan_serving"]
