"""Images built by buildah and run by podman, in a store of their own; needs root, and no daemon."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from embedmill.spec.document import sha256

NEEDED = ("buildah", "mmdebstrap", "podman", "runc")
BASE = [*("mmdebstrap", "--quiet", "--variant=minbase", "--include=python3-minimal,python3-venv", "bookworm")]
CACHE = Path(__file__).parents[2] / "build" / "rootfs"
CONFINED = [
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "host"),
    *("--tmpfs", "/tmp:rw,mode=1777", "-e", "HOME=/tmp", "-e", "EMBEDMILL_CACHE=/tmp/embedmill"),
    *("--ulimit", "nofile=1024:20000", "--ulimit", "nproc=4096:4096"),
]
"""As the manifests confine a pod."""


@dataclass(frozen=True)
class Containers:
    """Commands of buildah and podman over one folder; what is mounted lies below `running`."""

    folder: Path
    running: Path

    @property
    def _store(self) -> list[str]:
        return [
            "--root",
            f"{self.folder}/store",
            "--runroot",
            str(self.running),
            "--storage-driver",
            "overlay",
        ]

    def buildah(self, *arguments: str) -> str:
        return self._run(self.buildah_command(*arguments))

    def podman(self, *arguments: str) -> str:
        return self._run(self.podman_command(*arguments))

    def buildah_command(self, *arguments: str) -> list[str]:
        return ["buildah", *self._store, *arguments]

    def podman_command(self, *arguments: str) -> list[str]:
        return ["podman", *self._store, "--cgroup-manager=cgroupfs", "--runtime", "runc", *arguments]

    def make_base(self) -> str:
        """A small Debian with Python, by its digest."""
        container = self.buildah("from", "scratch")
        self.buildah("add", "--quiet", container, str(self._rootfs()), "/")
        self.buildah("commit", "--quiet", "--rm", container, "localhost/base")
        digest = self.buildah("images", "--digests", "--format", "{{.Digest}}", "localhost/base")
        return f"localhost/base@{digest}"

    def remove(self) -> None:
        """End what runs, and give hundreds of megabytes back."""
        self.podman("rm", "--all", "--force")
        overlay = self.folder / "store" / "overlay"
        if overlay.is_mount():  # by podman, onto itself
            subprocess.run(["umount", str(overlay)], check=True)
        shutil.rmtree(self.folder)

    def _rootfs(self) -> Path:
        """Its files, fetched once for all tests."""
        root = CACHE / f"{sha256(' '.join(BASE).encode())[:16]}.tar"
        if not root.is_file():
            CACHE.mkdir(parents=True, exist_ok=True)
            part = CACHE / f"{os.getpid()}.tar"
            self._run([*BASE, str(part)])
            part.replace(root)
        return root

    def _run(self, command: list[str]) -> str:
        environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()
