"""Families and places of a cluster: what is in them, and what is refused with words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.batches import spec, write_images

from embedmill.errors import SpecError
from embedmill.fleet.cluster import ClusterPlaces, cluster_engine, families_of, places_on_cluster, settings
from embedmill.spec import PipelineSpec

BUCKET = "s3://bucket/mill"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_images(tmp_path)


def looking(root: Path, runtimes: tuple[str, ...] = ("onnx", "jax"), **changed: Any) -> ClusterPlaces:
    return places_on_cluster(spec(**changed), root, BUCKET, runtimes)


def test_a_family_is_its_image_with_what_its_nodes_must_have(root: Path) -> None:
    families = families_of(settings(spec()), root)
    assert families["cu126"].accelerators == {"nvidia.com/gpu": 1}
    assert families["cu126"].node_labels == {"pool": "training"}
    assert families["cu126"].node_terms
    assert families["cpu"].command == ("python", "-m", "embedmill")
    assert not families["cpu"].accelerators
    assert not families["cpu"].node_terms


def test_a_family_on_tpus_asks_for_all_chips_of_a_host(root: Path) -> None:
    tpu = families_of(settings(spec()), root)["v5e"]
    assert tpu.accelerators == {"google.com/tpu": 4}
    assert tpu.node_labels == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "2x2",
    }
    assert not tpu.node_terms


def test_places_are_taken_in_order_and_none_twice(root: Path) -> None:
    look = looking(root)
    assert [each.worker for each in look.look(100, ()).free] == [
        "cu126-0", "cu126-1", "cu126-2", "cu126-3", "v5e-0", "v5e-1", "cpu-0"
    ]  # fmt: skip
    assert [each.worker for each in look.look(2, ("cu126-0", "cu126-2")).free] == ["cu126-1", "cu126-3"]


def test_a_place_has_the_device_and_threads_of_its_family(root: Path) -> None:
    found = {each.worker: each for each in looking(root).look(100, ()).free}
    assert (found["cu126-0"].device, found["cu126-0"].threads, found["cu126-0"].image) == ("cuda", 4, "cu126")
    assert (found["v5e-0"].device, found["cpu-0"].device) == ("tpu", "cpu")
    assert all(each.host is not None and each.host.name == "kubernetes/embeddings" for each in found.values())


def test_families_that_cannot_compute_the_model_are_passed_over_with_words(root: Path) -> None:
    look = looking(root, ("onnx",)).look(100, ())
    assert {each.image for each in look.free} == {"cu126", "cpu"}
    assert look.passed_over == {"v5e": "a TPU computes by jax, which the model has no runtime for"}


def test_a_run_without_any_family_for_its_model_is_refused(root: Path) -> None:
    with pytest.raises(SpecError, match="no family can compute the model: cu126: the model needs torch"):
        looking(root, ("torch",))


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ({"image": "cu999"}, "no image 'cu999' in images.yaml"),
        ({"image": "local"}, "is the id of an image that is somewhere already"),
    ],
)
def test_images_that_a_cluster_cannot_pull_are_named(root: Path, family: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        families_of(settings(spec(families={"x": family})), root)


@pytest.mark.parametrize(
    ("store", "mounts", "opens"),
    [
        ("s3://bucket/mill", {}, True),
        ("gs://bucket/mill", {}, True),
        ("/data/mill", {}, False),
        ("/data/mill", {"/data": "mill"}, True),
        ("file:///data/mill", {"/data/mill": "mill"}, True),
        ("/data/mill", {"/dat": "mill"}, False),
        ("memory://x", {"/x": "mill"}, False),
    ],
)
def test_a_store_must_be_a_bucket_or_a_mounted_folder(
    root: Path, store: str, mounts: dict[str, str], opens: bool
) -> None:
    wanted = spec(mounts=mounts or None)
    if opens:
        assert places_on_cluster(wanted, root, store, ["onnx"]).look(1, ()).free
    else:
        with pytest.raises(SpecError, match="pods cannot open it"):
            places_on_cluster(wanted, root, store, ["onnx"])


def test_an_engine_without_a_section_says_what_is_missing(root: Path) -> None:
    bare = PipelineSpec.model_validate({**spec().model_dump(), "kubernetes": None})
    with pytest.raises(SpecError, match="says nothing of the cluster"):
        cluster_engine(bare, root)


@pytest.mark.parametrize(
    "wrong",
    [
        {"namespace": "Embeddings"},
        {"queue": "a.b"},
        {"families": {}},
        {"families": {"Cu126": {}}},
        {"families": {"cu126": {"workers": 0}}},
        {"mounts": {"relative": "claim"}},
        {"ports": [0]},
        {"nightly": {"image": "embedmill:latest"}},
        {"secret": {"AWS_SECRET_ACCESS_KEY": "x"}},
    ],
)
def test_names_that_kubernetes_would_refuse_are_refused_before(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        spec(**wrong)
