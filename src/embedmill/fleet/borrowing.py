"""What a run on a fleet needs: an engine that reaches its servers, and a search for their idle GPUs.

each look:  ask servers ─▶ judge GPUs ─▶ match images ─▶ choose within limits ─▶ places
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from embedmill.errors import SpecError
from embedmill.fleet.baselines import learnt
from embedmill.fleet.idle import judge
from embedmill.fleet.matching import match_fleet
from embedmill.types import Look

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from embedmill.fleet.placing import Placing
    from embedmill.fleet.proofs import Proofs
    from embedmill.spec.fleet import FleetSpec
    from embedmill.spec.fleet_reports import FleetProbe, ServerProbe

LOCAL_SCHEMES = frozenset({"", "file"})


@dataclass
class FleetPlaces:
    """Places on a fleet's idle GPUs.

    `ask` asks all servers that may be used; `runtimes` are the kinds that can compute the model, under whose
    digest `model` proofs are kept. `baseline_mib`: memory of idle GPUs by UUID, which each look adds to.
    """

    placing: Placing
    ask: Callable[[], FleetProbe]
    again_s: float | None = 300.0
    waits: bool = False
    runtimes: tuple[str, ...] = ()
    proofs: Proofs | None = None
    model: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    baseline_mib: dict[str, int] = field(default_factory=dict)

    def look(self, most: int, held: Collection[str]) -> Look:
        """Ask every server; it takes as long as a GPU must have been idle.

        Raises:
            SpecError: What an image requires is no expression.
            StoreError: Proofs cannot be read.
        """
        now = datetime.now(UTC)
        asked = self.ask()
        hosts = [server.facts for server in asked.servers if server.facts is not None]
        self.baseline_mib = learnt(self.baseline_mib, hosts)
        servers = tuple(self._judged(server, now) for server in asked.servers)
        probe = asked.model_copy(update={"servers": servers})
        match = match_fleet(probe, self.placing.images, self.proofs, model=self.model, runtimes=self.runtimes)
        found = self.placing.places(
            probe, match, now=now, held=held, most=most, baseline_mib=self.baseline_mib
        )
        return Look(found.free, {**self.refused, **found.passed_over})

    def _judged(self, server: ServerProbe, now: datetime) -> ServerProbe:
        if server.facts is None:
            return server
        spec = self.placing.spec
        verdicts = judge(server.server, spec, server.facts, now=now, baseline_mib=self.baseline_mib)
        return server.model_copy(update={"gpus": verdicts})


def reachable_from(
    store: str, spec: FleetSpec, names: Collection[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Servers whose workers can open a store, and why the others cannot. A bucket is open to all.

    `store`: its URL, with a whole path where it is a folder.

    Raises:
        SpecError: None of them can.
    """
    parts = urlsplit(store)
    if parts.scheme == "memory":
        raise SpecError(
            f"store {store}: no other process can open it", hint="use a bucket, or a shared folder"
        )
    if parts.scheme not in LOCAL_SCHEMES:
        return tuple(names), {}
    folder = Path(parts.path or store)
    can = tuple(
        name for name in names if any(folder.is_relative_to(each) for each in spec.servers[name].mounts)
    )
    if not can:
        raise SpecError(
            f"store {folder}: is a folder of this machine, which workers on {', '.join(names)} cannot open",
            hint="use a bucket such as s3://…; or, where it is a network disk, name it in the servers' `mounts`",
        )
    return can, {name: f"not asked: {folder} is not in its `mounts`" for name in names if name not in can}
