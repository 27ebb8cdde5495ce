"""`deploy batch` writes nothing that a run on the cluster would refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import batches

from embedmill.deploy.kubernetes import deploy_batch
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


def test_a_spec_without_a_cluster_is_told_by_the_name_of_its_file(tmp_path: Path) -> None:
    spec = batches.spec().model_copy(update={"kubernetes": None})
    with pytest.raises(SpecError, match=r"^p2\.yaml says nothing of the cluster"):
        deploy_batch(tmp_path / "m", spec, tmp_path, "p2.yaml")
