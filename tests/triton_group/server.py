"""A real Triton on 127.0.0.1, with its Python backend: started, killed and ended by pid."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytriton

READY_S = 120.0
STOP_S = 60.0
CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: {max_batch}
{inputs}
output [{{ name: "vectors", data_type: {output}, dims: [{dimension}] }}]
instance_group [{{ kind: KIND_CPU, count: 1 }}]
"""


def tokens(*names: str) -> str:
    """Inputs of token ids and the like: int64[N, T]."""
    return "\n".join(f'input [{{ name: "{name}", data_type: TYPE_INT64, dims: [-1] }}]' for name in names)


TEXT = tokens("input_ids", "attention_mask")


@dataclass
class Triton:
    """A server with the models of a folder. Its ports stay the same from start to start."""

    folder: Path
    http: int = field(default_factory=lambda: free_port())
    grpc: int = field(default_factory=lambda: free_port())
    metrics: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen[bytes] | None = None

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def url(self, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self.grpc if scheme == 'grpc' else self.http}"

    def add(
        self,
        name: str,
        code: Path,
        *files: Path,
        dimension: int,
        version: int = 3,
        max_batch: int = 8,
        inputs: str = TEXT,
        output: str = "TYPE_FP32",
    ) -> None:
        """Put a model into the folder: its `model.py`, and files beside it."""
        place = self.models / name / str(version)
        place.mkdir(parents=True)
        shutil.copyfile(code, place / "model.py")
        for file in files:
            shutil.copyfile(file, place / file.name)
        config = CONFIG.format(
            name=name, max_batch=max_batch, dimension=dimension, inputs=inputs, output=output
        )
        (place.parent / "config.pbtxt").write_text(config)

    def start(self) -> None:
        """Start it, and wait until its models answer."""
        package = Path(pytriton.__file__).parent
        backends = self._backends(package)
        with (self.folder / "triton.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(package / "tritonserver/bin/tritonserver"),
                    f"--model-repository={self.models}",
                    f"--backend-directory={backends}",
                    f"--http-port={self.http}",
                    f"--grpc-port={self.grpc}",
                    f"--metrics-port={self.metrics}",
                    *(f"--{door}-address=127.0.0.1" for door in ("http", "grpc", "metrics")),
                    "--exit-timeout-secs=5",
                    f"--backend-config=python,shm-region-prefix-name=embedmill-{self.http}",
                ],
                env=self._environment(package),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_ready()

    def kill(self) -> None:
        """SIGKILL: no request in flight gets an answer. Its backend's processes too: one may not notice."""
        if self.process is not None:
            stubs = children_of(self.process)
            self.process.kill()
            self.process.wait()
            self.process = None
            for stub in stubs:
                with contextlib.suppress(psutil.NoSuchProcess):
                    stub.kill()
            psutil.wait_procs(stubs, STOP_S)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
            self.kill()

    def log(self) -> str:
        return (self.folder / "triton.log").read_text(errors="replace")

    def _backends(self, package: Path) -> Path:
        """The Python backend with its stub for this Python beside it, where the server looks for both."""
        backends = self.folder / "backends"
        if not backends.exists():
            shutil.copytree(package / "tritonserver/backends/python", backends / "python")
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            stub = package / f"tritonserver/python_backend_stubs/{version}/triton_python_backend_stub"
            shutil.copy(stub, backends / "python")
        return backends

    def _environment(self, package: Path) -> dict[str, str]:
        """The stub finds its packages by the `python` on PATH, and its libraries by the loader's path."""
        libraries = [package.parent / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        }

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self.process is not None and self.process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, OSError):
                ready = f"{self.url('http')}/v2/health/ready"
                with urllib.request.urlopen(ready, timeout=5):  # noqa: S310 - http, as `url` says
                    return
            time.sleep(0.1)
        raise RuntimeError(f"Triton does not start:\n{self.log()[-3000:]}")


def children_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """What it started, and what that did; none where it has ended already."""
    found: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(process.pid).children(recursive=True)
    return found


def free_port() -> int:
    """One that stays free while the server is away: below those that Linux gives to whoever connects."""
    while True:
        port = secrets.choice(range(20_000, 32_768))
        with contextlib.suppress(OSError), socket.socket() as found:
            found.bind(("127.0.0.1", port))
            return port
