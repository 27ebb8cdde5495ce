"""A cluster of Ray for KubeRay: as reviewed, with pods that are valid and confined, closed to strangers.

The CRD itself is in no package that tests may fetch: fields of a RayCluster are compared with a list of those
that KubeRay's Go types have; pods, policies and the rest are validated by the schemas of Kubernetes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.cli.terminal import run_alone
from tests.deploy_group.test_manifests import VERSIONS, built, whole_resources
from tests.support import ray_manifests

from embedmill.deploy.kubernetes import RaySettings, deploy_ray
from embedmill.errors import SpecError

FILES = sorted(path.name for path in ray_manifests.GOLDEN.rglob("*.yaml"))
SPEC = {
    "rayVersion",
    "enableInTreeAutoscaling",
    "autoscalerOptions",
    "headGroupSpec",
    "workerGroupSpecs",
    "headServiceAnnotations",
    "gcsFaultToleranceOptions",
    "authOptions",
    "managedBy",
    "suspend",
}
AUTOSCALER = {
    "version",
    "resources",
    "image",
    "imagePullPolicy",
    "securityContext",
    "idleTimeoutSeconds",
    "upscalingMode",
    "env",
    "envFrom",
    "volumeMounts",
}
HEAD = {"template", "headService", "enableIngress", "rayStartParams", "serviceType", "labels", "resources"}
GROUP = {
    "groupName",
    "replicas",
    "minReplicas",
    "maxReplicas",
    "idleTimeoutSeconds",
    "rayStartParams",
    "template",
    "scaleStrategy",
    "numOfHosts",
    "suspend",
    "labels",
    "resources",
}
"""JSON names of RayClusterSpec, AutoscalerOptions, HeadGroupSpec and WorkerGroupSpec (ray.io/v1)."""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    ray_manifests.render(folder / "pipeline", folder / "manifests")
    return folder / "manifests" / "ray"


@pytest.fixture(scope="module")
def cluster(rendered: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((rendered / "ray-cluster.yaml").read_bytes())
    return found


def templates(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the head, and of each group."""
    spec = cluster["spec"]
    return [spec["headGroupSpec"]["template"], *(each["template"] for each in spec["workerGroupSpecs"])]


def policy(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / f"network-policy-{name}.yaml").read_bytes())
    return dict(found["spec"])


def test_what_is_rendered_is_what_was_reviewed(rendered: Path) -> None:
    assert sorted(path.name for path in rendered.rglob("*.yaml")) == FILES
    for name in FILES:
        assert (rendered / name).read_text() == (ray_manifests.GOLDEN / "ray" / name).read_text(), (
            f"{name} changed: review it, then `python -m tests.support.ray_manifests` writes it anew"
        )


def test_a_cluster_has_only_fields_that_kuberay_knows(cluster: dict[str, Any]) -> None:
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    spec = cluster["spec"]
    assert set(spec) <= SPEC
    assert set(spec["autoscalerOptions"]) <= AUTOSCALER
    assert set(spec["headGroupSpec"]) <= HEAD
    for group in spec["workerGroupSpecs"]:
        assert set(group) <= GROUP
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


@pytest.mark.parametrize("version", VERSIONS)
def test_pods_and_the_rest_are_valid_without_a_field_that_is_unknown(
    rendered: Path, cluster: dict[str, Any], version: str
) -> None:
    for each in whole_resources(rendered):
        if each["kind"] != "RayCluster":
            kubernetes_validate.validate(each, version, strict=True)
    for template in templates(cluster):
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        pod["metadata"] = {**template["metadata"], "name": "one"}
        kubernetes_validate.validate(pod, version, strict=True)


def test_kustomize_builds_them_into_their_namespace(rendered: Path) -> None:
    found = built(rendered)
    assert {each["kind"] for each in found} >= {"RayCluster", "NetworkPolicy", "PriorityClass"}
    for each in found:
        wanted = None if each["kind"] == "PriorityClass" else "embeddings"
        assert each["metadata"].get("namespace") == wanted


def test_a_group_begins_with_no_pod_and_grows_to_what_its_family_says(cluster: dict[str, Any]) -> None:
    groups = {each["groupName"]: each for each in cluster["spec"]["workerGroupSpecs"]}
    assert {name: each["maxReplicas"] for name, each in groups.items()} == {"cu126": 4, "cpu": 1}
    assert {each["minReplicas"] for each in groups.values()} == {0}
    assert cluster["spec"]["enableInTreeAutoscaling"] is True
    assert groups["cu126"]["labels"] == {"embedmill.io/image": "cu126"}
    assert (groups["cu126"]["rayStartParams"]["num-gpus"], groups["cpu"]["rayStartParams"]["num-gpus"]) == (
        "1",
        "0",
    )


def test_pods_of_gpus_go_to_nodes_whose_driver_and_gpu_fit_their_image(cluster: dict[str, Any]) -> None:
    gpu, cpu = (each["template"]["spec"] for each in cluster["spec"]["workerGroupSpecs"])
    terms = gpu["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    keys = {each["key"] for term in terms["nodeSelectorTerms"] for each in term["matchExpressions"]}
    assert any(key.startswith("nvidia.com/") for key in keys)
    assert gpu["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert gpu["nodeSelector"] == {"pool": "training"}
    assert "affinity" not in cpu


def test_every_pod_and_the_autoscaler_have_the_token_by_reference(cluster: dict[str, Any]) -> None:
    lists = [template["spec"]["containers"][0]["env"] for template in templates(cluster)]
    for variables in [*lists, cluster["spec"]["autoscalerOptions"]["env"]]:
        by_name = {each["name"]: each for each in variables}
        assert by_name["RAY_AUTH_MODE"]["value"] == "token"
        reference = by_name["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
        assert reference == {"name": "mill-ray", "key": "auth_token"}


def test_every_pod_is_confined_and_pinned(cluster: dict[str, Any]) -> None:
    for template in templates(cluster):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        (container,) = pod["containers"]
        assert "@sha256:" in container["image"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"] == container["resources"]["limits"]
    workers = templates(cluster)[1:]
    assert not any(each["spec"]["automountServiceAccountToken"] for each in workers)


def test_only_the_cluster_and_who_drives_runs_come_in(rendered: Path, cluster: dict[str, Any]) -> None:
    own = {"podSelector": {"matchLabels": {"ray.io/cluster": cluster["metadata"]["name"]}}}
    everybody, head = policy(rendered, "ray"), policy(rendered, "ray-head")
    assert everybody["ingress"] == [{"from": [own]}]
    (driver,) = head["ingress"]
    labels = driver["from"][0]["podSelector"]["matchLabels"]
    assert labels["app.kubernetes.io/component"] == "controller"
    assert {port["port"] for port in driver["ports"]} == {8265, 10001}
    assert all(rule.get("ports") or rule["to"] == [own] for rule in everybody["egress"])


def test_the_command_writes_them_and_says_what_they_need(tmp_path: Path) -> None:
    root = ray_manifests.write_images(tmp_path / "pipeline")
    spec = ray_manifests.spec().model_dump(mode="json", exclude_defaults=True)
    (root / "pipeline.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    given = ("deploy", "ray", root / "pipeline.yaml", "--token-secret", "mill-ray", "--head-image", "cpu")
    said = run_alone(*given, "--to", tmp_path / "m")
    assert said.code == 0, said.err
    assert "cu126 (at most 4), cpu (at most 1)" in said.out
    assert "KubeRay 1.5 or later, and the secret: mill-ray" in said.err
    report = run_alone(*given, "--to", tmp_path / "n", "--json").json
    assert (report["schema"], report["ray"]) == ("deploy-ray/1", "2.60.0")
    written = (tmp_path / "n" / "ray" / "ray-cluster.yaml").read_text()
    assert written == (ray_manifests.GOLDEN / "ray" / "ray-cluster.yaml").read_text()


def test_images_without_ray_or_with_two_versions_are_refused(tmp_path: Path) -> None:
    root = ray_manifests.write_images(tmp_path / "pipeline", cu126=None)
    with pytest.raises(SpecError, match="image cu126: has no Ray"):
        deploy_ray(tmp_path / "m", ray_manifests.spec(), root, RaySettings())
    root = ray_manifests.write_images(tmp_path / "pipeline", cu126="2.52.1")
    with pytest.raises(SpecError, match="different versions of Ray"):
        deploy_ray(tmp_path / "m", ray_manifests.spec(), root, RaySettings())
