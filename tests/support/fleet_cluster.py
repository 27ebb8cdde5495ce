"""A head of Ray beside GPU servers, on the same network, for `fleet up` to bring the servers to.

with FleetCluster(servers, folder) as cluster:
    cluster.command("run", spec, "--engine", "ray")     # who drives is on the head
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from tests.support.gpu_servers import GpuServers
from tests.support.patience import PATIENCE_S

PORT = 6379
STORE_BYTES = 80_000_000
NODES = """
import json, sys
from pathlib import Path
from embedmill.engines.ray.head import Head
nodes = Head(sys.argv[1], Path(sys.argv[2])).nodes()
print(json.dumps([{"alive": each.alive, "labels": dict(each.labels)} for each in nodes]))
"""


class FleetCluster:
    """The head, which has no processors for actors; leaving the context ends it by its pids."""

    def __init__(self, servers: GpuServers, folder: Path) -> None:
        self._servers, self._folder = servers, folder
        self.token_file = folder / "token"
        self._temporary = Path(tempfile.mkdtemp(prefix="head-", dir="/tmp"))

    def __enter__(self) -> Self:
        self.token_file.write_text(secrets.token_hex(32) + "\n")
        self.token_file.chmod(0o600)
        self.namespace, host = self._servers.attach()
        self.address = f"{host}:{PORT}"
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        command += [f"--port={PORT}", f"--node-ip-address={host}", f"--temp-dir={self._temporary}"]
        command += ["--num-cpus=0", f"--object-store-memory={STORE_BYTES}", "--include-dashboard=false"]
        log = self._folder / "head.log"
        self._process = subprocess.Popen(
            self.inside(*command, "--disable-usage-stats"),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline_s = time.monotonic() + PATIENCE_S
        while "Ray runtime started" not in log.read_text():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """For Ray's own programs."""
        own = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
        return {**own, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file)}

    def inside(self, *command: str) -> list[str]:
        """A command line that runs on the head."""
        return ["ip", "netns", "exec", self.namespace, *command]

    def embedmill(self, *arguments: str | Path) -> list[str]:
        """A command of ours, on the head."""
        return self.inside(sys.executable, "-m", "embedmill", *map(str, arguments))

    def servers(self) -> set[str]:
        """Servers that are nodes, as the head sees it."""
        asked = [sys.executable, "-c", NODES, self.address, str(self.token_file)]
        done = subprocess.run(self.inside(*asked), capture_output=True, text=True, check=True)
        nodes: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        alive = [node["labels"] for node in nodes if node["alive"]]
        return {labels["embedmill.io/server"] for labels in alive if "embedmill.io/server" in labels}
