"""A Job's manifest: what confines its pods, what their ends mean, and names that never collide."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from embedmill.engines.kubernetes.manifest import (
    HOPELESS,
    INDEX,
    YIELDS,
    Cluster,
    Family,
    Requirement,
    Slots,
    job,
    job_name,
    slots_of,
)
from embedmill.types import Placement

RUN = "s3://bucket/mill/similar-items/runs/20260131T235959112-3f9c"
IMAGE = f"registry.internal/worker@sha256:{'ab' * 32}"
FAMILY = Family(
    "cu126",
    IMAGE,
    accelerators={"nvidia.com/gpu": 1},
    node_labels={"pool": "training"},
    node_terms=((Requirement("nvidia.com/gpu.compute.major", "In", ("8",)),),),
)
PLACE = Placement("cu126-0", device="cuda", threads=2, image="cu126")
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def made(cluster: Cluster | None = None, family: Family = FAMILY, **changed: Any) -> dict[str, Any]:
    slots = Slots(f"cu126-{INDEX}", 3)
    return job(cluster or Cluster(), family, changed.pop("run", RUN), slots, replace(PLACE, **changed))


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return found


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod(manifest)["containers"]
    return dict(found)


def test_a_job_has_an_index_for_each_loop_and_fails_each_on_its_own() -> None:
    spec = made(Cluster(retries=5, deadline_s=600, keep_s=9))["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert (spec["backoffLimitPerIndex"], spec["podReplacementPolicy"]) == (5, "Failed")
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (600, 9)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_yields_are_ignored_and_hopeless_ends_fail_their_index() -> None:
    rules = made()["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "Ignore", "FailIndex"]
    assert rules[0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert rules[1]["onExitCodes"]["values"] == list(YIELDS)
    assert 42 in rules[2]["onExitCodes"]["values"]
    assert rules[2]["onExitCodes"]["values"] == sorted(HOPELESS)
    assert all(rule["onExitCodes"]["containerName"] == container(made())["name"] for rule in rules[1:])


def test_a_pod_may_only_compute() -> None:
    spec = pod(made())
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert container(made())["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {next(iter(set(each) - {"name"})) for each in spec["volumes"]} == {"emptyDir"}


def test_resources_are_requested_and_limited_alike_with_one_gpu() -> None:
    resources = container(made())["resources"]
    assert resources["requests"] == resources["limits"]
    assert resources["limits"]["nvidia.com/gpu"] == "1"
    assert {"cpu", "memory", "ephemeral-storage"} < set(resources["limits"])
    assert pod(made())["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_secrets_are_named_and_never_in_the_manifest() -> None:
    with_secret = made(Cluster(secret="mill-keys"))  # noqa: S106 - its name
    assert container(with_secret)["envFrom"] == [{"secretRef": {"name": "mill-keys"}}]
    assert "envFrom" not in container(made())


def test_nodes_must_have_the_labels_that_the_image_needs() -> None:
    spec = pod(made())
    assert spec["nodeSelector"] == {"pool": "training"}
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term == {
        "matchExpressions": [{"key": "nvidia.com/gpu.compute.major", "operator": "In", "values": ["8"]}]
    }
    bare = pod(made(family=Family("cpu", IMAGE)))
    assert not {"affinity", "nodeSelector", "tolerations"} & set(bare)


def test_kueue_is_asked_where_there_is_a_queue() -> None:
    label = "kueue.x-k8s.io/queue-name"
    assert made(Cluster(queue="night"))["metadata"]["labels"][label] == "night"
    assert label not in made()["metadata"]["labels"]


def test_every_pod_runs_a_worker_under_a_name_of_its_own() -> None:
    found = container(made())
    assert found["command"] == ["embedmill"]
    assert found["args"][:5] == ["worker", "--run", RUN, "--name", "cu126-$(JOB_COMPLETION_INDEX)"]
    assert found["args"][5:9] == ["--device", "cuda", "--threads", "2"]
    assert found["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_what_looks_like_a_variable_of_kubernetes_is_none() -> None:
    found = container(made(run="s3://b/$(HOME)/p/runs/r", command=("/bin/$(X)", "$$")))
    assert found["command"] == ["/bin/$$(X)"]
    assert found["args"][0] == "$$$$"
    assert "s3://b/$$(HOME)/p/runs/r" in found["args"]


def test_folders_of_claims_are_where_they_are_named() -> None:
    found = made(Cluster(mounts={"/mnt/mill": "mill", "/mnt/images": "shop", "/mnt/more": "mill"}))
    volumes = {each["name"]: each for each in pod(found)["volumes"] if "persistentVolumeClaim" in each}
    assert len(volumes) == 2
    mounted = {
        each["mountPath"]: volumes[each["name"]]["persistentVolumeClaim"]["claimName"]
        for each in container(found)["volumeMounts"]
        if each["name"] in volumes
    }
    assert mounted == {"/mnt/mill": "mill", "/mnt/images": "shop", "/mnt/more": "mill"}


def test_loops_that_are_numbered_from_zero_share_a_job() -> None:
    assert slots_of(["cu126-1", "cu126-0", "cu126-2"]) == [Slots(f"cu126-{INDEX}", 3)]
    assert slots_of(["cu126-1", "cu126-2"]) == [Slots("cu126-1"), Slots("cu126-2")]
    assert slots_of(["one", "two"]) == [Slots("one"), Slots("two")]
    assert slots_of(["a-0"]) == [Slots("a-0")]
    assert Slots(f"cu126-{INDEX}", 2).names() == ("cu126-0", "cu126-1")


@pytest.mark.parametrize("family", ["cu126", "x" * 24, "a.b_c", "---", "9"])
def test_names_are_labels_of_dns_whatever_the_family_is_called(family: str) -> None:
    name = job_name(RUN, family, Slots("w"), 999)
    assert LABEL.fullmatch(f"{name}-10000"), name


def test_names_tell_starts_loops_families_and_runs_apart() -> None:
    slots = Slots(f"a-{INDEX}", 2)
    names = {
        job_name(RUN, "a", slots, 1),
        job_name(RUN, "a", slots, 2),
        job_name(RUN, "a", Slots("a-0"), 1),
        job_name(RUN, "b", slots, 1),
        job_name(RUN + "0", "a", slots, 1),
    }
    assert len(names) == 5
    assert job_name(RUN, "a", slots, 1) in names


def test_labels_tell_the_run_and_the_pipeline() -> None:
    labels = made()["metadata"]["labels"]
    assert labels["embedmill/pipeline"] == "similar-items"
    assert labels["embedmill/run"] == "20260131T235959112-3f9c"
    assert labels == made()["spec"]["template"]["metadata"]["labels"]
    odd = made(run="s3://b/" + "p" * 80 + "_/runs/r.-")["metadata"]["labels"]
    assert all(re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", each) for each in odd.values())
