"""A folder that kustomize builds: a file for each resource, and the kustomization.yaml that lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.deploy.yaml_files import yaml_bytes

if TYPE_CHECKING:
    from embedmill.deploy.yaml_files import Resource


def kustomized(
    folder: str,
    namespace: str,
    resources: dict[str, Resource],
    *,
    more: list[str] | None = None,
    patches: list[str] | None = None,
) -> dict[str, bytes]:
    """Its files by their paths; `more` are folders that it builds upon."""
    kustomization: Resource = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [*(more or []), *(f"{name}.yaml" for name in resources)],
    }
    if namespace:
        kustomization["namespace"] = namespace
    if patches:
        kustomization["patches"] = [{"path": name} for name in patches]
    files = {f"{folder}/{name}.yaml": yaml_bytes(resource) for name, resource in resources.items()}
    return {**files, f"{folder}/kustomization.yaml": yaml_bytes(kustomization)}
