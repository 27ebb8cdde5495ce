"""A pipeline that runs on a cluster, with every setting, and the manifests that are rendered of it.

`python -m tests.support.batches` writes the golden files anew.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from embedmill.deploy.kubernetes import deploy_batch
from embedmill.fleet.cluster import places_on_cluster
from embedmill.spec import PipelineSpec
from embedmill.types import Placement

GOLDEN = Path(__file__).parents[1] / "deploy_group" / "golden"
RUN = "s3://bucket/mill/similar-items/runs/20260131T235959112-3f9c"


def pinned(name: str, digit: str) -> str:
    return f"registry.internal/{name}@sha256:{digit * 64}"


IMAGES: dict[str, Any] = {
    "images": {
        "cu126": {
            "image": pinned("worker-cu126", "a"),
            "runtimes": {"onnx": "1.22.0"},
            "cuda": "12.6",
            "sass": ["7.0", "7.5", "8.0", "8.6", "9.0"],
            "ptx": ["9.0"],
        },
        "jax": {"image": pinned("worker-jax", "b"), "runtimes": {"jax": "0.10.2"}, "device": "cpu"},
        "cpu": {
            "image": pinned("worker-cpu", "c"),
            "runtimes": {"onnx": "1.22.0"},
            "device": "cpu",
            "command": ["python", "-m", "embedmill"],
        },
        "local": {"image": f"sha256:{'d' * 64}", "runtimes": {"onnx": "1.22.0"}, "device": "cpu"},
    }
}
SECTION: dict[str, Any] = {
    "namespace": "embeddings",
    "queue": "night",
    "secret": "mill-keys",
    "mounts": {"/mnt/images": "shop-images"},
    "families": {
        "cu126": {"workers": 4, "cpus": 4, "memory_mib": 8192, "nodes": {"pool": "training"}},
        "v5e": {
            "image": "jax",
            "workers": 2,
            "tpu": {"accelerator": "tpu-v5-lite-podslice", "topology": "2x2", "chips": 4},
        },
        "cpu": {"workers": 1},
    },
    "nightly": {"image": pinned("embedmill", "e"), "claim": "pipelines"},
}


def spec(**changed: Any) -> PipelineSpec:
    """`changed` keys of the section; None takes one away."""
    section = {key: value for key, value in {**SECTION, **changed}.items() if value is not None}
    return PipelineSpec.model_validate(
        {
            "name": "similar-items",
            "catalog": {"source": "items/*.parquet", "id": "sku"},
            "model": "models/minilm",
            "store": "s3://bucket/mill",
            "engine": "kubernetes",
            "kubernetes": section,
        }
    )


def write_images(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "images.yaml").write_text(yaml.safe_dump(IMAGES))
    return root


def places(root: Path) -> tuple[Placement, ...]:
    return places_on_cluster(spec(), root, "s3://bucket/mill", ["onnx", "jax"]).look(100, ()).free


def render(root: Path, folder: Path, **changed: Any) -> None:
    """The base and the Jobs of RUN."""
    write_images(root)
    deploy_batch(folder, spec(**changed), root, "pipeline.yaml", (RUN, places(root)))


if __name__ == "__main__":
    import tempfile

    shutil.rmtree(GOLDEN, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        render(Path(scratch), GOLDEN)
