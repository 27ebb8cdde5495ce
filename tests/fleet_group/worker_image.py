"""The image for workers on CPUs, rendered and built: wheels of this checkout, and once those of the index."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.deploy_group.containers import Containers

from embedmill.deploy.image_tools import ImageTool, build_image
from embedmill.deploy.worker_image import Settings, Variant, chosen_variant, render_image
from embedmill.spec.document import sha256
from embedmill.spec.worker_images import ImageReport

REPOSITORY = Path(__file__).resolve().parents[2]
WHEELS = REPOSITORY / "build" / "wheels"
TAG = "localhost/embedmill:onnx-cpu"


def build_worker_image(containers: Containers, folder: Path, ray: str | None = None) -> ImageReport:
    """As `images render onnx-cpu` and `images build` do it, with a folder of wheels and no index."""
    variant = chosen_variant("onnx-cpu")
    wheels = wheels_for(variant, folder / "wheels", ray)
    render_image(folder / "image", variant, Settings(containers.make_base(), wheels=wheels, ray=ray))
    tool = ImageTool(tuple(containers.buildah_command()))
    os.environ.setdefault("BUILDAH_ISOLATION", "chroot")
    return build_image(tool, folder / "image", TAG, more=("--pull-never", "--layers=false"))


def wheels_for(variant: Variant, folder: Path, ray: str | None = None) -> Path:
    """Embedmill as this checkout is, and what it needs; that is fetched once for all tests."""
    folder.mkdir()
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(REPOSITORY))
    (own,) = folder.glob("embedmill-*.whl")
    more = [] if ray is None else [f"ray[default]=={ray}"]
    wanted = [variant.requirement, *more]
    needed = sha256((REPOSITORY / "pyproject.toml").read_bytes() + " ".join(wanted).encode())[:16]
    kept = WHEELS / needed
    if not kept.is_dir():
        part = WHEELS / f"{needed}.{os.getpid()}"
        pip("download", "--only-binary=:all:", "--dest", str(part), f"{own}[cloud,http]", *wanted)
        (part / own.name).unlink()
        part.rename(kept)
    for wheel in kept.glob("*.whl"):
        (folder / wheel.name).hardlink_to(wheel)
    return folder


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
