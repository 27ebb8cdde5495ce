"""`deploy batch` writes nothing that a run on the cluster would refuse."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from tests.support import batches

from embedmill.deploy.kubernetes import deploy_batch, nowhere
from embedmill.errors import SpecError


@pytest.mark.parametrize("store", ["./mill", "/srv/mill", "file:///srv/mill", "memory://mill"])
def test_a_store_that_pods_cannot_open_is_refused(tmp_path: Path, store: str) -> None:
    root = batches.write_images(tmp_path / "pipeline")
    spec = batches.spec().model_copy(update={"store": store})
    with pytest.raises(SpecError, match="pods cannot open it"):
        deploy_batch(tmp_path / "m", spec, root, "pipeline.yaml")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("store", "mount"),
    [
        ("s3://bucket/mill", "/elsewhere"),
        ("/srv/mill", "/srv"),
        ("file:///srv/mill", "/srv"),
        ("./mill", "/pipeline"),  # where the nightly pod has pipeline.yaml
    ],
)
def test_a_bucket_or_a_folder_that_pods_mount_is_rendered(tmp_path: Path, store: str, mount: str) -> None:
    root = batches.write_images(tmp_path / "pipeline")
    spec = batches.spec(mounts={mount: "claim"}).model_copy(update={"store": store})
    assert deploy_batch(tmp_path / "m", spec, root, "pipeline.yaml").files


def test_a_folder_beside_the_spec_needs_its_mount_where_there_is_no_nightly_pod(tmp_path: Path) -> None:
    root = batches.write_images(tmp_path / "pipeline")
    mounted = {"mounts": {"/pipeline": "claim"}, "nightly": None}
    spec = batches.spec(**mounted).model_copy(update={"store": "./mill"})
    with pytest.raises(SpecError, match="pods cannot open it"):
        deploy_batch(tmp_path / "m", spec, root, "pipeline.yaml")
    there = batches.spec(**{**mounted, "mounts": {str(root): "claim"}}).model_copy(update={"store": "./mill"})
    assert deploy_batch(tmp_path / "m", there, root, "pipeline.yaml").files


def test_two_pipelines_whose_long_names_begin_alike_have_a_nightly_job_each(tmp_path: Path) -> None:
    root, names = batches.write_images(tmp_path / "pipeline"), []
    for name in ("product-similarity-images-de", "product-similarity-images-fr", "similar-items"):
        deploy_batch(tmp_path / name, batches.spec().model_copy(update={"name": name}), root, "pipeline.yaml")
        names.append(yaml.safe_load((tmp_path / name / "base/cron-job.yaml").read_text())["metadata"]["name"])
    assert len(set(names)) == 3
    assert max(map(len, names)) <= 52
    assert names[2] == "embedmill-worker-controller-similar-items"


def test_pipelines_whose_names_differ_in_a_dot_have_a_nightly_job_each(tmp_path: Path) -> None:
    """Names of Kubernetes have no `_`, and this one no `.`; and they end with neither nor with `-`."""
    root, names = batches.write_images(tmp_path / "pipeline"), []
    pipelines = ("shop-de", "shop.de", "shop_de", "shop-de-", "shop-de.", "shop_de_")
    for name in pipelines:
        deploy_batch(tmp_path / name, batches.spec().model_copy(update={"name": name}), root, "pipeline.yaml")
        names.append(yaml.safe_load((tmp_path / name / "base/cron-job.yaml").read_text())["metadata"]["name"])
    assert len(set(names)) == len(pipelines)
    assert names[0] == "embedmill-worker-controller-shop-de"
    assert [name for name in names if not re.fullmatch(r"[a-z0-9][a-z0-9-]{,50}[a-z0-9]", name)] == []


def test_each_pipeline_has_network_policies_of_its_own(tmp_path: Path) -> None:
    """Else the ports of the one that is applied last would be those of all."""
    root, names = batches.write_images(tmp_path / "pipeline"), []
    pipelines = ("similar-items", "shop.de", "shop_de", "shop-de", "controller-shop-de", "shop-de.")
    for name in pipelines:
        deploy_batch(tmp_path / name, batches.spec().model_copy(update={"name": name}), root, "pipeline.yaml")
        for component in ("worker", "controller"):
            file = tmp_path / name / f"base/network-policy-{component}.yaml"
            names.append(yaml.safe_load(file.read_text())["metadata"]["name"])
    assert len(set(names)) == 2 * len(pipelines)
    assert names[:2] == ["embedmill-worker-similar-items", "embedmill-worker-controller-similar-items"]
    subdomain = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
    assert [name for name in names if not subdomain.fullmatch(name) or len(name) > 253] == []


def test_a_nightly_run_that_published_with_quarantined_items_is_not_repeated(tmp_path: Path) -> None:
    root = batches.write_images(tmp_path / "pipeline")
    deploy_batch(tmp_path / "m", batches.spec(), root, "pipeline.yaml")
    cron = yaml.safe_load((tmp_path / "m/base/cron-job.yaml").read_text())["spec"]
    (rule,) = [
        each for each in cron["jobTemplate"]["spec"]["podFailurePolicy"]["rules"] if "onExitCodes" in each
    ]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [2, 3, 4])


def test_what_lies_outside_of_the_nightly_pods_volumes_is_told() -> None:
    beside = batches.spec(images="../images.yaml", mounts={"/models": "models"})
    beside = beside.model_copy(update={"model": "../models/minilm"})
    place = "/images.yaml, which is in none of its volumes"
    assert nowhere(beside) == [f"the nightly pod looks for `kubernetes.images` at {place}"]
    assert nowhere(batches.spec()) == []
    for images, told in {"../pics": 1, "/srv/pics": 1, "pics": 0, "/models/pics": 0, "store:pics": 0}.items():
        spec = batches.spec(mounts={"/models": "models"})
        catalog = spec.catalog.model_copy(update={"images": images})
        notes = nowhere(spec.model_copy(update={"catalog": catalog}))
        assert len(notes) == told, images
        assert all(note.startswith("the nightly pod looks for `catalog.images` at /") for note in notes)
    in_the_image = {"image": batches.pinned("embedmill", "e")}
    assert nowhere(batches.spec(images="../images.yaml", nightly=in_the_image)) == []


def test_a_spec_without_a_cluster_is_told_by_the_name_of_its_file(tmp_path: Path) -> None:
    spec = batches.spec().model_copy(update={"kubernetes": None})
    with pytest.raises(SpecError, match=r"^p2\.yaml says nothing of the cluster"):
        deploy_batch(tmp_path / "m", spec, tmp_path, "p2.yaml")
