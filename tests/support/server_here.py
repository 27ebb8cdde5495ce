"""This machine as the only server of a fleet, for `engine: ssh` without ssh: its GPU is told by a fake NVML.

Needs gcc. Holders, their locks and loops are real; containers contain nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.fake_gpus import FakeGpu, Scenario, build_library
from tests.support.uncontained import install_podman

WORKER = "here-0"
"""The loop on its GPU."""


def server_here(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Write fleet.yaml beside a pipeline in `root`, and let processes see the GPU: pipeline.yaml's part."""
    folder.mkdir()
    gpu = FakeGpu("GPU-00000000-0000-0000-0000-00000000beef")
    for name, value in Scenario([gpu]).environment(build_library(), folder / "scenario").items():
        monkeypatch.setenv(name, value)
    podman = install_podman(folder / "bin")
    monkeypatch.setenv("PATH", f"{podman.parent}:{os.environ['PATH']}")
    image = {"image": f"sha256:{'ab' * 32}", "runtimes": {"onnx": "1.22.0"}, "device": "cpu"}
    server = {"kind": "local", "folder": str(folder / "borrowed"), "mounts": [str(root)]}
    idle = {"window_s": 0.4, "every_s": 0.1}
    fleet = {"images": "images.yaml", "idle": idle, "servers": {"here": server}}
    (root / "fleet.yaml").write_text(yaml.safe_dump(fleet))
    (root / "images.yaml").write_text(yaml.safe_dump({"images": {"cpu": image}}))
    return {"engine": "ssh", "fleet": "fleet.yaml"}
