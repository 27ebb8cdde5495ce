"""Manifests by the schemas of Kubernetes, strictly, from 1.30 to the newest; and as kustomize builds them."""

from __future__ import annotations

import copy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.support.plans import a_plan

from embedmill.deploy.kubernetes import deploy_serving, pod

OLDEST = 30
NEWEST = int(kubernetes_validate.latest_version().split(".")[1])
VERSIONS = [f"1.{minor}" for minor in range(OLDEST, NEWEST + 1)]
OVERLAYS = ["base", "overlays/cpu", "overlays/gpu", "overlays/blue-green/before", "overlays/blue-green/after"]


def built(folder: Path) -> list[dict[str, Any]]:
    """What `kubectl apply --kustomize` would send."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "kustomize warns"
    return list(yaml.safe_load_all(done.stdout))


def whole_resources(folder: Path) -> list[dict[str, Any]]:
    found = [yaml.safe_load(file.read_bytes()) for file in sorted(folder.rglob("*.yaml"))]
    return [each for each in found if "labels" in each.get("metadata", {})]


def test_the_newest_schemas_are_new_enough_to_mean_something() -> None:
    assert len(VERSIONS) >= 4


@pytest.mark.parametrize("version", VERSIONS)
def test_every_file_is_valid_without_a_field_that_is_unknown(manifests: Path, version: str) -> None:
    resources = whole_resources(manifests)
    assert len(resources) >= 15
    for resource in resources:
        kubernetes_validate.validate(resource, version, strict=True)


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_a_misspelt_field_would_be_found(manifests: Path, version: str) -> None:
    deployment = yaml.safe_load((manifests / "base/deployment.yaml").read_bytes())
    misspelt = copy.deepcopy(deployment)
    (server,) = misspelt["spec"]["template"]["spec"]["containers"]
    server["readynessProbe"] = server.pop("readinessProbe")
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(misspelt, version, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_builds_every_overlay_into_valid_resources(manifests: Path, overlay: str) -> None:
    resources = built(manifests / overlay)
    kinds = [each["kind"] for each in resources]
    pairs = 2 if "blue-green" in overlay else 1
    for kind, count in {
        "Deployment": pairs,
        "PodDisruptionBudget": pairs,
        "HorizontalPodAutoscaler": pairs,
        "Service": 1,
        "NetworkPolicy": 1,
        "ServiceAccount": 1,
    }.items():
        assert kinds.count(kind) == count
    for resource in resources:
        assert resource["metadata"]["namespace"] == "shop"
        for version in (VERSIONS[0], VERSIONS[-1]):
            kubernetes_validate.validate(resource, version, strict=True)


def test_the_gpu_overlay_changes_the_server_and_keeps_all_that_confines_it(manifests: Path) -> None:
    (plain,) = [each for each in built(manifests / "base") if each["kind"] == "Deployment"]
    (patched,) = [each for each in built(manifests / "overlays/gpu") if each["kind"] == "Deployment"]
    pod_spec = patched["spec"]["template"]["spec"]
    (server,) = pod_spec["containers"]
    (before,) = plain["spec"]["template"]["spec"]["containers"]
    assert server["resources"]["limits"] == before["resources"]["limits"] | {"nvidia.com/gpu": "1"}
    assert server["args"] == pod.serve_arguments(a_plan(), "cuda:0")
    changed = {"resources", "args"}
    assert {key for key in server if server[key] != before.get(key)} == changed
    assert {key for key in pod_spec if pod_spec[key] != plain["spec"]["template"]["spec"].get(key)} == {
        "containers",
        "tolerations",
    }


def test_settings_that_may_be_left_out_leave_valid_manifests(tmp_path: Path) -> None:
    deploy_serving(tmp_path / "m", a_plan(store_secret="", namespace="", scrapers=(), replicas=1))
    for resource in whole_resources(tmp_path / "m"):
        kubernetes_validate.validate(resource, VERSIONS[0], strict=True)
    deployment = yaml.safe_load((tmp_path / "m/base/deployment.yaml").read_bytes())
    (init,) = deployment["spec"]["template"]["spec"]["initContainers"]
    assert "envFrom" not in init
