"""A real HAProxy whose servers come and go, and are asked at /readyz whether they are ready."""

from __future__ import annotations

import csv
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from tests.support.patience import PATIENCE_S
from tools.seaweedfs import free_ports

SLOTS = 4
CONFIGURATION = """\
global
  stats socket {folder}/admin.sock mode 600 level admin
  maxconn 256
defaults
  mode http
  timeout connect 60s
  timeout client 120s
  timeout server 120s
  timeout check 60s
frontend clients
  bind 127.0.0.1:{port}
  default_backend servers
backend servers
  balance roundrobin
  option httpchk
  http-check send meth GET uri /readyz
  http-check expect status 200
  default-server inter 100ms fastinter 100ms downinter 100ms fall 1 rise 1
{servers}
"""


class Balancer:
    """HAProxy with `SLOTS` places for servers; nothing is asked twice but what never reached a server."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("haproxy") is None:
            pytest.skip("haproxy is not installed")
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._socket = folder / "admin.sock"
        self._free = [f"slot{number}" for number in range(SLOTS)]
        self._slots: dict[int, str] = {}
        servers = "\n".join(f"  server {slot} 127.0.0.1:1 check disabled" for slot in self._free)
        self._file = folder / "haproxy.cfg"
        self._file.write_text(CONFIGURATION.format(folder=folder, port=port, servers=servers))
        self._log = (folder / "haproxy.log").open("w")

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["haproxy", "-db", "-f", str(self._file)], stdout=self._log, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + PATIENCE_S
        while not self._socket.exists():
            assert self._process.poll() is None, Path(self._log.name).read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self._log.close()

    def add(self, port: int) -> None:
        """Ask this server as well, from when it is found ready."""
        slot = self._slots[port] = self._free.pop()
        self._command(f"set server servers/{slot} addr 127.0.0.1 port {port}")
        self._command(f"set server servers/{slot} state ready")
        self._wait(slot, "UP")

    def wait_out(self, port: int) -> None:
        """Until a server's own word, or its silence, has taken it out."""
        self._wait(self._slots[port], "DOWN")

    def forget(self, port: int) -> None:
        """Its place is free."""
        slot = self._slots.pop(port)
        self._command(f"set server servers/{slot} state maint")
        self._free.append(slot)

    def up(self) -> int:
        """How many servers are asked."""
        return sum(status.startswith("UP") for status in self._states().values())

    def _wait(self, slot: str, status: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self._states()[slot].startswith(status):
            assert time.monotonic() < deadline, f"{slot} is {self._states()[slot]}, not {status}"
            time.sleep(0.02)

    def _states(self) -> dict[str, str]:
        rows = csv.DictReader(self._command("show stat").removeprefix("# ").splitlines())
        return {row["svname"]: row["status"] for row in rows if row["svname"].startswith("slot")}

    def _command(self, line: str) -> str:
        with socket.socket(socket.AF_UNIX) as talk:
            talk.connect(str(self._socket))
            talk.sendall(f"{line}\n".encode())
            said = b""
            while more := talk.recv(1 << 16):
                said += more
        return said.decode()
