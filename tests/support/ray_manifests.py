"""A cluster of Ray for KubeRay, of the pipeline of `batches` without what computes on TPUs.

`python -m tests.support.ray_manifests` writes the golden files anew.
"""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import yaml
from tests.support import batches

from embedmill.deploy.kubernetes import RaySettings, deploy_ray
from embedmill.spec import PipelineSpec

GOLDEN = Path(__file__).parents[1] / "deploy_group" / "ray_golden"
SETTINGS = RaySettings("embedmill", "mill-ray", "cpu")


def spec(**changed: Any) -> PipelineSpec:
    families = {name: each for name, each in batches.SECTION["families"].items() if name != "v5e"}
    return batches.spec(families=families, **changed)


def write_images(root: Path, **versions: str | None) -> Path:
    """images.yaml; `versions` of Ray other than 2.60.0, by image."""
    images = copy.deepcopy(batches.IMAGES)
    for name, image in images["images"].items():
        image["ray"] = versions.get(name, "2.60.0")
    root.mkdir(parents=True, exist_ok=True)
    (root / "images.yaml").write_text(yaml.safe_dump(images))
    return root


def render(root: Path, folder: Path) -> None:
    deploy_ray(folder, spec(), write_images(root), SETTINGS)


if __name__ == "__main__":
    import tempfile

    shutil.rmtree(GOLDEN, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        render(Path(scratch), GOLDEN)
