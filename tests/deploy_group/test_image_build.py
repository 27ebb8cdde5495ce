"""The serving image, built for real and run as a pod would be: by another user, on a read-only root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from tests.deploy_group.containers import CONFINED, Containers
from tests.support.mill import Mill, items
from tools.seaweedfs import free_ports

from embedmill.deploy.image import deploy_image
from embedmill.deploy.kubernetes.pod import USER
from embedmill.release.source import source_in

REPOSITORY = Path(__file__).resolve().parents[2]
PIP_CONF = "no-index = true"
"""A pip.conf without which the build would ask an index, and which must be in no layer."""


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def add_wheels(image: Path) -> None:
    """Embedmill, as this checkout is, and all that it needs."""
    wheels = str(image / "wheels")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, str(REPOSITORY))
    wanted = [
        "--constraint",
        str(image / "constraints.txt"),
        "--requirement",
        str(image / "requirements.txt"),
    ]
    pip("download", "--only-binary=:all:", "--dest", wheels, "--find-links", wheels, *wanted)


@pytest.mark.soak
def test_the_image_is_built_of_wheels_and_serves_what_it_fetched(
    mill: Mill, tmp_path: Path, containers: Containers
) -> None:
    mill.run(items(50))
    base = containers.make_base()
    image, release = tmp_path / "image", tmp_path / "release"
    deploy_image(image, source_in(mill.home), base)
    add_wheels(image)
    (tmp_path / "pip.conf").write_text(f"[global]\n{PIP_CONF}\n")
    secret = f"id=pip,src={tmp_path}/pip.conf"
    options = ["--layers=false", "--pull-never", "--format", "docker", "--secret", secret]
    containers.buildah("bud", *options, "--tag", "localhost/serving", str(image))
    release.mkdir()
    os.chown(release, USER, USER)
    run = ["run", "--rm", "--pull=never", *CONFINED]
    mounts = ["-v", f"{mill.home.store.url}:/mill:ro", "-v", f"{release}:/release"]
    fetched = containers.podman(
        *run, *mounts, "localhost/serving", *["fetch", "/mill/test", "--to", "/release", "--json"]
    )
    assert json.loads(fetched)["number"] == 1
    (port,) = free_ports(1)
    serve = ["--name", "server", "-v", f"{release}:/release:ro", "localhost/serving", "serve", "/release"]
    command = containers.podman_command(*run, *serve, "--port", str(port), "--threads", "1", "--drain", "0.5")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert ask(f"http://127.0.0.1:{port}/readyz", process)["number"] == 1
        shell = ["exec", "server", "sh", "-c"]
        assert containers.podman(*shell, "id -u") == str(USER)
        assert containers.podman(*shell, "touch /opt/x 2>&1 || true").endswith("Read-only file system")
        assert containers.podman(*shell, f"grep -rsl '{PIP_CONF}' /etc /opt /build /wheels || true") == ""
        assert containers.podman(*shell, "command -v cc gcc pip || true") == ""
    finally:
        containers.podman("kill", "--signal", "TERM", "server")
    assert process.wait(120) == 0


def ask(url: str, process: subprocess.Popen[str]) -> dict[str, object]:
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - of our own server
                found: dict[str, object] = json.loads(answer.read())
                return found
        except OSError:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
        time.sleep(0.2)
