"""What agents are asked, and what they answered: facts of their GPUs, without anything installed there."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from embedmill.deploy.jenkins.settings import AGENTS, agent_of
from embedmill.devices.bundle import bundle
from embedmill.errors import StoreError
from embedmill.fleet.asking import judged, question
from embedmill.fleet.reaching import Silence
from embedmill.spec.document import now
from embedmill.spec.fleet_reports import FleetProbe
from embedmill.spec.host import HostFacts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from embedmill.spec.fleet import FleetSpec

PROGRAM, SERVERS, SUFFIX = "host.py", "servers.txt", ".facts"
NO_ANSWER = "its agent gave no answer: is it on, and connected to Jenkins?"
FACTS_BYTES = 1 << 24


def questions(spec: FleetSpec) -> dict[str, bytes]:
    """The program for all, a question for each server that is an agent, and a line `SERVER LABEL` for each.

    Raises:
        SpecError: The name of an agent is no word.
    """
    servers = {name: server for name, server in spec.servers.items() if server.kind in AGENTS}
    folders = {name: server.folder for name, server in servers.items()}
    asked = {f"{name}.json": json.dumps(question(spec, each)).encode() for name, each in folders.items()}
    lines = "".join(f"{name} {agent_of(name, each)}\n" for name, each in servers.items())
    return {PROGRAM: bundle("host").encode(), SERVERS: lines.encode(), **asked}


class AnsweredProbe:
    """What is known of servers by the files that their agents left in a folder, `SERVER.facts` each."""

    def __init__(self, folder: Path) -> None:
        """Read nothing yet."""
        self._folder = folder

    def __call__(
        self, spec: FleetSpec, names: Sequence[str], *, baseline_mib: Mapping[str, int] | None
    ) -> FleetProbe:
        """Every one of these servers; those without a file gave no answer."""
        begun, taken = time.monotonic(), now()
        servers = tuple(judged(spec, name, self._facts(spec, name), baseline_mib) for name in names)
        return FleetProbe(taken=taken, seconds=round(time.monotonic() - begun, 3), servers=servers)

    def _facts(self, spec: FleetSpec, name: str) -> HostFacts | Silence:
        if spec.servers[name].kind not in AGENTS:
            return Silence("failed", f"kind {spec.servers[name].kind}: is no agent of Jenkins")
        try:
            with (self._folder / f"{name}{SUFFIX}").open("rb") as file:
                data = file.read(FACTS_BYTES)
        except OSError:
            return Silence("timeout", NO_ANSWER)
        lines = [line for line in data.splitlines() if line.startswith(b"{")]
        try:
            return HostFacts.from_bytes(lines[-1] if lines else b"", name)
        except StoreError as error:
            return Silence("failed", f"its answer cannot be understood: {error.message}")
