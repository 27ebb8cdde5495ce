"""Builds and inspects images with what is there: buildah, podman or docker."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedmill.deploy.describe import SIZE
from embedmill.deploy.image_labels import entry_of
from embedmill.deploy.worker_image import SBOM
from embedmill.errors import EmbedmillError, SpecError
from embedmill.spec.worker_images import ImageReport, InstalledPackage

if TYPE_CHECKING:
    from collections.abc import Sequence

TOOLS = ("podman", "docker", "buildah")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
"""Every builder knows these as build arguments; by name alone: no password is in an argument vector."""
CONFINED = ("--rm", "--network=none", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")


@dataclass(frozen=True)
class ImageTool:
    """A tool as a command, such as `podman --root /images`; its name is that of its program."""

    command: tuple[str, ...]

    @property
    def name(self) -> str:
        """`podman`, `docker` or `buildah`."""
        return Path(self.command[0]).name

    def run(self, *arguments: str, talking: bool = False) -> str:
        """What it printed; or nothing, where it is `talking`, which goes to stderr as builds take minutes.

        Raises:
            EmbedmillError: It failed.
        """
        command = [*self.command, *arguments]
        environment = {"DOCKER_BUILDKIT": "1", **os.environ}
        out = sys.stderr.fileno() if talking else subprocess.PIPE
        done = subprocess.run(command, stdout=out, text=True, env=environment, check=False)
        if done.returncode:
            raise EmbedmillError(f"{shlex.join(command)}: ended with {done.returncode}", hint="see above")
        return (done.stdout or "").strip()


def find_tool(command: str | None) -> ImageTool:
    """The tool of a command, or the first that is installed.

    Raises:
        SpecError: It is none of those known, or none is installed.
    """
    if command is None:
        found = next((name for name in TOOLS if shutil.which(name)), None)
        if found is None:
            raise SpecError("no tool that builds images is here", hint=f"install one of {', '.join(TOOLS)}")
        return ImageTool((found,))
    tool = ImageTool(tuple(shlex.split(command)))
    if not tool.command or tool.name not in TOOLS or shutil.which(tool.command[0]) is None:
        raise SpecError(f"{command!r}: is not one of {', '.join(TOOLS)}, or is not installed")
    return tool


def build_image(
    tool: ImageTool, folder: Path, tag: str, *, pip_conf: Path | None = None, more: Sequence[str] = ()
) -> ImageReport:
    """Build a rendered folder, and read back what was made of it.

    Raises:
        SpecError: The folder has no Dockerfile.
        EmbedmillError: The build failed.
    """
    if not (folder / "Dockerfile").is_file():
        raise SpecError(f"{folder}: has no Dockerfile", hint="`embedmill images render` writes one")
    arguments = ["build", "--tag", tag]
    arguments += [] if tool.name == "docker" else ["--format=docker"]
    arguments += [] if pip_conf is None else [f"--secret=id=pip,src={pip_conf}"]
    for name in PROXIES:
        arguments += ["--build-arg", name] if name in os.environ else []
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "id"
        tool.run(*arguments, *more, f"--iidfile={made}", str(folder), talking=True)
        image = made.read_text().strip()
    return inspect_image(tool, image if image.startswith("sha256:") else f"sha256:{image}")


def inspect_image(
    tool: ImageTool, image: str, *, packages: bool = False, more: Sequence[str] = ()
) -> ImageReport:
    """What an image that is here says of itself; `packages`: also what is in it, by `run`, with `more`.

    Raises:
        SpecError: It says nothing of itself.
        EmbedmillError: There is no such image here, or it has no SBOM.
    """
    if tool.name == "buildah":
        facts = json.loads(tool.run("inspect", "--type=image", image))
        config, size, own = facts["Docker"]["config"], None, f"sha256:{facts['FromImageID']}"
    else:
        facts = json.loads(tool.run("image", "inspect", image))[0]
        config, size, own = facts["Config"], int(facts["Size"]), f"sha256:{facts['Id'].split(':')[-1]}"
    named = image if "@sha256:" in image else own
    entry = entry_of(named, config.get("Labels") or {}, config.get("Env") or ())
    listed = installed(sbom_of(tool, own, *more)) if packages else ()
    return ImageReport(image=named, size_bytes=size, entry=entry, packages=listed)


def sbom_of(tool: ImageTool, image: str, *more: str) -> dict[str, Any]:
    """An image's SBOM, which a container without a network prints.

    Raises:
        SpecError: The tool runs no containers.
        EmbedmillError: It has none.
    """
    if tool.name == "buildah":
        raise SpecError("buildah runs no containers", hint="take podman or docker to see what is in an image")
    printed = tool.run("run", *CONFINED, *more, "--entrypoint=cat", image, SBOM)
    found: dict[str, Any] = json.loads(printed)
    return found


def installed(sbom: dict[str, Any]) -> tuple[InstalledPackage, ...]:
    """Packages of an SBOM, largest first."""
    found = [
        InstalledPackage(
            kind=component["purl"].split(":")[1].split("/")[0],
            name=component["name"],
            version=component["version"],
            size_bytes=sum(int(each["value"]) for each in component["properties"] if each["name"] == SIZE),
        )
        for component in sbom["components"]
    ]
    return tuple(sorted(found, key=lambda package: (-package.size_bytes, package.name)))
