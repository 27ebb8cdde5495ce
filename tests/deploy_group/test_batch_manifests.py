"""Manifests of runs on a cluster: valid by the schemas of Kubernetes, as reviewed, and confined."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.deploy_group.test_manifests import VERSIONS, built, whole_resources
from tests.support import batches

from embedmill.deploy.kubernetes import deploy_batch
from embedmill.errors import SpecError

FILES = sorted(path.relative_to(batches.GOLDEN).as_posix() for path in batches.GOLDEN.rglob("*.yaml"))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batch")
    batches.render(folder / "pipeline", folder / "manifests")
    return folder / "manifests"


def resource(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / name).read_bytes())
    return found


def pods(folder: Path) -> list[dict[str, Any]]:
    found = [each for each in whole_resources(folder) if each["kind"] == "Job"]
    made = [each["spec"]["template"] for each in found]
    cron = resource(folder, "base/cron-job.yaml")["spec"]["jobTemplate"]["spec"]["template"]
    assert len(made) == 3
    return [*made, cron]


def test_what_is_rendered_is_what_was_reviewed(rendered: Path) -> None:
    made = sorted(path.relative_to(rendered).as_posix() for path in rendered.rglob("*.yaml"))
    assert made == FILES
    for name in FILES:
        assert (rendered / name).read_text() == (batches.GOLDEN / name).read_text(), (
            f"{name} changed: review it, then `python -m tests.support.batches` writes the golden files anew"
        )


@pytest.mark.parametrize("version", VERSIONS)
def test_every_file_is_valid_without_a_field_that_is_unknown(rendered: Path, version: str) -> None:
    resources = whole_resources(rendered)
    assert len(resources) == 11
    for each in resources:
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_a_misspelt_field_would_be_found(rendered: Path, version: str) -> None:
    misspelt = copy.deepcopy(resource(rendered, "jobs/job-cu126.yaml"))
    misspelt["spec"]["backoffLimitPerIndexes"] = misspelt["spec"].pop("backoffLimitPerIndex")
    with pytest.raises(kubernetes_validate.ValidationError, match="backoffLimitPerIndexes"):
        kubernetes_validate.validate(misspelt, version, strict=True)


@pytest.mark.parametrize("part", ["base", "jobs"])
def test_kustomize_builds_them_into_their_namespace(rendered: Path, part: str) -> None:
    for each in built(rendered / part):
        kubernetes_validate.validate(each, VERSIONS[-1], strict=True)
        cluster_wide = each["kind"] == "PriorityClass"
        assert each["metadata"].get("namespace") == (None if cluster_wide else "embeddings")
        if each["kind"] == "RoleBinding":
            assert each["subjects"][0]["namespace"] == "embeddings"


def test_only_what_drives_runs_has_a_token_and_it_may_only_do_what_the_engine_asks(rendered: Path) -> None:
    *workers, driver = pods(rendered)
    assert not any(pod["spec"]["automountServiceAccountToken"] for pod in workers)
    assert driver["spec"]["automountServiceAccountToken"] is True
    rules = {
        rule["resources"][0]: set(rule["verbs"]) for rule in resource(rendered, "base/role.yaml")["rules"]
    }
    assert rules == {"jobs": {"create", "delete", "list"}, "pods": {"list"}}
    (subject,) = resource(rendered, "base/role-binding.yaml")["subjects"]
    assert subject["name"] == driver["spec"]["serviceAccountName"]
    assert subject["name"] not in {pod["spec"]["serviceAccountName"] for pod in workers}


def test_every_pod_is_confined_and_pinned(rendered: Path) -> None:
    for pod in pods(rendered):
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod["spec"])
        kinds = {next(iter(set(each) - {"name"})) for each in pod["spec"]["volumes"]}
        assert kinds <= {"emptyDir", "persistentVolumeClaim"}
        (container,) = pod["spec"]["containers"]
        assert "@sha256:" in container["image"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_nobody_may_ask_a_worker_and_it_may_ask_names_and_the_store(rendered: Path) -> None:
    spec = resource(rendered, "base/network-policy-worker.yaml")["spec"]
    assert spec["ingress"] == []
    assert {port["port"] for rule in spec["egress"] for port in rule["ports"]} == {53, 443}
    *workers, _ = pods(rendered)
    for pod in workers:
        assert spec["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_the_nightly_run_is_of_this_pipeline_one_at_a_time(rendered: Path) -> None:
    cron = resource(rendered, "base/cron-job.yaml")["spec"]
    assert cron["concurrencyPolicy"] == "Forbid"
    (container,) = cron["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["run", "/pipeline/pipeline.yaml", "--engine", "kubernetes", "--quiet"]
    mounts = {each["mountPath"] for each in container["volumeMounts"]}
    assert mounts == {"/tmp", "/pipeline", "/mnt/images"}


def test_settings_that_may_be_left_out_leave_valid_manifests(tmp_path: Path) -> None:
    root = batches.write_images(tmp_path / "pipeline")
    bare = batches.spec(queue=None, secret=None, mounts=None, nightly=None, namespace=None)
    deploy_batch(tmp_path / "m", bare, root, "pipeline.yaml", (batches.RUN, batches.places(root)))
    assert not (tmp_path / "m/base/cron-job.yaml").exists()
    for each in whole_resources(tmp_path / "m"):
        kubernetes_validate.validate(each, VERSIONS[0], strict=True)


def test_a_run_without_work_has_no_jobs_to_render(tmp_path: Path) -> None:
    root = batches.write_images(tmp_path / "pipeline")
    with pytest.raises(SpecError, match="has no shard to work on"):
        deploy_batch(tmp_path / "m", batches.spec(), root, "pipeline.yaml", (batches.RUN, ()))
