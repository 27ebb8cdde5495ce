"""A disk that keeps removed files while they are open, as clients of NFS do: under another name."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import pytest


def like_nfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all disks such ones, for files that this process holds open."""
    remove = os.unlink

    def unlink(path: Any, *, dir_fd: int | None = None) -> None:
        found = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
        if (found.st_dev, found.st_ino) not in _open_files():
            remove(path, dir_fd=dir_fd)
            return
        folder = os.path.dirname(os.fspath(path))  # noqa: PTH120 - relative to `dir_fd`, if there is one
        kept = os.path.join(folder, f".nfs{found.st_ino:016x}")  # noqa: PTH118 - likewise
        os.rename(path, kept, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink)


def _open_files() -> set[tuple[int, int]]:
    found = set[tuple[int, int]]()
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - descriptors are numbers, not paths
        with contextlib.suppress(OSError):
            status = os.fstat(int(name))
            found.add((status.st_dev, status.st_ino))
    return found
