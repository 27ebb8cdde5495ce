"""Manifests of a release: every rule that its pods must keep, in every folder that has some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.plans import IMAGE, a_plan

from embedmill.deploy.kubernetes import deploy_serving, store_port_of
from embedmill.deploy.kubernetes.plan import GRACE_S
from embedmill.deploy.yaml_files import Resource
from embedmill.errors import SpecError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Manifests of release 12, and of a switch to it from release 9."""
    deploy_serving(tmp_path / "manifests", a_plan(12), a_plan(9))
    return tmp_path / "manifests"


def resources(folder: Path, kind: str) -> list[Resource]:
    """Whole resources of a kind, with patches left out."""
    found = [yaml.safe_load(file.read_bytes()) for file in sorted(folder.rglob("*.yaml"))]
    return [each for each in found if each["kind"] == kind and "labels" in each.get("metadata", {})]


def pods(folder: Path) -> list[Resource]:
    found = [each["spec"]["template"] for each in resources(folder, "Deployment")]
    assert len(found) == 3, "base, and both sides of the switch"
    return found


def containers(pod: Resource) -> list[Resource]:
    both: list[Resource] = [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]
    return both


def test_every_container_has_requests_and_limits_of_all_that_it_uses(folder: Path) -> None:
    for pod in pods(folder):
        for container in containers(pod):
            for bound in ("requests", "limits"):
                assert set(container["resources"][bound]) == {"cpu", "memory", "ephemeral-storage"}


def test_no_container_may_do_more_than_compute(folder: Path) -> None:
    for pod in pods(folder):
        own = pod["spec"]["securityContext"]
        assert own["runAsNonRoot"] is True
        assert own["runAsUser"] > 0
        assert own["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod["spec"])
        assert {next(iter(set(each) - {"name"})) for each in pod["spec"]["volumes"]} == {"emptyDir", "secret"}
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_servers_are_asked_whether_they_started_are_ready_and_live(folder: Path) -> None:
    for pod in pods(folder):
        (server,) = pod["spec"]["containers"]
        asked = {name: server[name]["httpGet"]["path"] for name in server if name.endswith("Probe")}
        assert asked == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
        started = server["startupProbe"]
        assert started["periodSeconds"] * started["failureThreshold"] >= a_plan().sizes.start_s
        assert all(server[name]["httpGet"]["port"] == server["ports"][0]["name"] for name in asked)


def test_a_pod_that_ends_has_time_to_drain_and_to_finish(folder: Path) -> None:
    for pod in pods(folder):
        (server,) = pod["spec"]["containers"]
        drain_s = int(server["args"][server["args"].index("--drain") + 1])
        probe = server["readinessProbe"]
        assert drain_s > probe["periodSeconds"] * probe["failureThreshold"], "the end is not seen in time"
        assert pod["spec"]["terminationGracePeriodSeconds"] > drain_s + GRACE_S


def test_a_new_pod_is_ready_before_an_old_one_ends(folder: Path) -> None:
    for deployment in resources(folder, "Deployment"):
        rolling = {"maxUnavailable": 0, "maxSurge": 1}
        assert deployment["spec"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}
        assert "replicas" not in deployment["spec"], "the autoscaler and the manifest would fight for it"


def test_all_files_of_a_release_come_from_one_number_into_a_volume_with_a_limit(folder: Path) -> None:
    numbers = []
    for pod in pods(folder):
        (init,) = pod["spec"]["initContainers"]
        args = init["args"]
        assert args[:2] == ["fetch", "s3://bucket/mill/similar-items"]
        numbers.append(args[args.index("--release") + 1])
        assert args[args.index("--manifest") + 1] == a_plan().manifest_digest
        volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
        limit = int(volumes["release"]["emptyDir"]["sizeLimit"].removesuffix("Mi")) << 20
        assert limit > a_plan().sizes.release
        (server,) = pod["spec"]["containers"]
        mounts = {mount["name"]: mount for mount in server["volumeMounts"]}
        assert mounts["release"] == {"name": "release", "mountPath": "/release", "readOnly": True}
        assert args[args.index("--to") + 1] == server["args"][1] == "/release"
        assert pod["metadata"]["labels"]["embedmill/release-number"] == numbers[-1]
        assert pod["metadata"]["annotations"]["embedmill/model-digest"] == a_plan().package_digest
    assert sorted(numbers) == ["12", "12", "9"]


def test_secrets_are_named_and_never_written(folder: Path) -> None:
    assert not resources(folder, "Secret")
    for pod in pods(folder):
        init, server = containers(pod)
        assert init["envFrom"] == [{"secretRef": {"name": "embedmill-store"}}]
        assert "envFrom" not in server, "who answers needs no key of the store"
        assert all("value" in each and "KEY" not in each["name"] for each in [*init["env"], *server["env"]])


def test_labels_are_labels(folder: Path) -> None:
    for file in folder.rglob("*.yaml"):
        metadata = yaml.safe_load(file.read_bytes()).get("metadata", {})
        for value in metadata.get("labels", {}).values():
            assert isinstance(value, str)
            assert len(value) <= 63


@pytest.mark.parametrize("kind", ["Deployment", "PodDisruptionBudget"])
def test_a_selector_finds_the_pods_of_its_deployment_and_no_others(folder: Path, kind: str) -> None:
    """Two budgets over one pod would let nobody drain its node."""
    deployments = resources(folder, "Deployment")
    for selecting in resources(folder, kind):
        selector = selecting["spec"]["selector"]["matchLabels"].items()
        found = [
            each["metadata"]["name"]
            for each in deployments
            if selector <= each["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert found == [selecting["metadata"]["name"]]


def test_the_service_of_the_base_finds_its_pods_alone(folder: Path) -> None:
    service = yaml.safe_load((folder / "base/service.yaml").read_bytes())
    asked = service["spec"]["selector"].items()
    found = [
        each["metadata"]["name"]
        for each in resources(folder, "Deployment")
        if asked <= each["spec"]["template"]["metadata"]["labels"].items()
    ]
    assert found == ["similar-items"]


def test_a_switch_changes_only_which_release_the_service_asks(folder: Path) -> None:
    services = {
        step: yaml.safe_load((folder / f"overlays/blue-green/{step}/service.yaml").read_bytes())
        for step in ("before", "after")
    }
    asked = {
        step: each["spec"]["selector"].pop("embedmill/release-number") for step, each in services.items()
    }
    assert asked == {"before": "9", "after": "12"}
    assert services["before"] == services["after"]


def test_the_gpu_overlay_asks_for_one_device_and_nothing_of_the_host(folder: Path) -> None:
    patch = yaml.safe_load((folder / "overlays/gpu/deployment.yaml").read_bytes())
    (server,) = patch["spec"]["template"]["spec"]["containers"]
    assert server["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert server["args"][server["args"].index("--device") + 1] == "cuda:0"
    assert "volumes" not in patch["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("replicas", "rolling", "says"),
    [
        (3, {"maxUnavailable": 1, "maxSurge": 0}, b"no spare one is needed"),
        (1, {"maxUnavailable": 0, "maxSurge": 1}, b"it needs a spare GPU"),
    ],
)
def test_an_update_of_the_gpu_overlay_says_whether_it_needs_a_spare_gpu(
    tmp_path: Path, replicas: int, rolling: dict[str, int], says: bytes
) -> None:
    deploy_serving(tmp_path, a_plan(12, replicas=replicas, max_replicas=replicas))
    patch = (tmp_path / "overlays/gpu/deployment.yaml").read_bytes()
    assert yaml.safe_load(patch)["spec"]["strategy"]["rollingUpdate"] == rolling
    assert says in patch
    assert b"computes on processors alone" in patch


@pytest.mark.parametrize(
    ("variables", "url", "port"),
    [
        ({}, "s3://bucket/mill", 443),
        ({"AWS_ENDPOINT_URL_S3": "http://minio:9000"}, "s3://bucket/mill", 9000),
        ({"AWS_ENDPOINT_URL": "http://minio"}, "s3://bucket/mill", 80),
        ({"AWS_ENDPOINT_URL": "https://s3.internal"}, "s3://bucket/mill", 443),
        ({"AWS_ENDPOINT_URL": "http://minio:9000"}, "gs://bucket/mill", 443),
        ({"AZURE_STORAGE_ENDPOINT": "http://azurite:10000"}, "az://container", 10000),
        ({"AWS_ENDPOINT_URL": "http://minio:9000"}, "./mill", 443),
    ],
)
def test_the_way_out_to_the_store_is_where_the_environment_says_that_it_listens(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, port: int
) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert store_port_of(url) == port


def test_nobody_gets_in_or_out_who_is_not_named(folder: Path) -> None:
    for policy in resources(folder, "NetworkPolicy"):
        (way_in,) = policy["spec"]["ingress"]
        assert way_in["ports"] == [{"port": 8080, "protocol": "TCP"}]
        assert way_in["from"] == [
            {"podSelector": {}},
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
        ]
        assert [port["port"] for way in policy["spec"]["egress"] for port in way["ports"]] == [53, 53, 443]


def test_every_file_is_listed_where_kustomize_looks(folder: Path) -> None:
    for file in folder.rglob("kustomization.yaml"):
        spec: dict[str, Any] = yaml.safe_load(file.read_bytes())
        named = {*spec["resources"], *(patch["path"] for patch in spec.get("patches", []))}
        beside = {each.name for each in file.parent.glob("*.yaml")} - {file.name}
        assert beside <= named
        assert all((file.parent / name).exists() for name in named)
        assert spec["namespace"] == "shop"


def test_the_image_is_the_given_one_everywhere(folder: Path) -> None:
    assert {each["image"] for pod in pods(folder) for each in containers(pod)} == {IMAGE}


def test_a_release_does_not_stand_beside_itself(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="beside itself"):
        deploy_serving(tmp_path / "manifests", a_plan(12), a_plan(12))
