"""Idle GPUs join a Ray cluster, each in the container that matches it, and leave it again.

up:    look for idle GPUs ─▶ holder start ─▶ until the head knows the node, or for `patience_s`
down:  every server ─▶ holder stop, of all whose names end as this cluster's do

What holds a node on a server outlives whoever asked for it, and ends it when somebody else comes to the GPU.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from embedmill.devices.reach import SSH_FAILED, run_there
from embedmill.engines.ssh import GRACE_S, holder_name
from embedmill.errors import EngineRefused, EngineUnavailable
from embedmill.fleet.asking import answered
from embedmill.fleet.nodes import GPU_LABEL, RayCluster, host_of, node_order
from embedmill.fleet.reaching import silence_of_ssh
from embedmill.spec.ray_fleet import FleetDown, FleetUp, NodeDown, NodeUp

if TYPE_CHECKING:
    from embedmill.engines.ray.head import RayNode
    from embedmill.types import Host, Look, Placement

PATIENCE_S = 90.0
"""A node takes some seconds; a server that must fetch its image first, minutes."""
EVERY_S = 1.0
ANSWER_S = 30.0
PARALLEL = 32
Tell = Callable[[str], None]


class KnowsNodes(Protocol):
    """The head of a cluster, as `engines.ray.head.Head` asks it."""

    def nodes(self) -> list[RayNode]:
        """All nodes."""
        ...


@dataclass
class _Joining:
    """One node on its way. While it waits, `said` is why nobody knows whether it was started, if so."""

    place: Placement
    name: str
    state: str = "waits"
    said: str = ""

    def fail(self, said: str) -> None:
        self.state, self.said = "failed", said


@dataclass(frozen=True)
class _NoAnswer:
    """Why a holder has said nothing. `unknown`: it may have done all the same what it was asked."""

    why: str
    unknown: bool = False


@dataclass
class Up:
    """Brings nodes up for one cluster. `version` is its Ray's; `tell` hears what happens."""

    cluster: RayCluster
    head: KnowsNodes
    version: str
    patience_s: float = PATIENCE_S
    tell: Tell = field(default=lambda _: None)
    _trouble: str = field(default="", init=False)
    """Why the head does not say which nodes it has; empty where it does."""

    def run(self, look: Callable[[], Look], refused: Mapping[str, str]) -> FleetUp:
        """Look for idle GPUs, start nodes there, wait until they have joined; asked again, add to them."""
        began_s = time.monotonic()
        found = look()
        before = {node.id: node for node in self.head.nodes() if node.alive}
        joining = [_Joining(place, holder_name(self.cluster.url, place.worker)) for place in found.free]
        passed_over = {**refused, **found.passed_over}
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="up") as pool:
            list(pool.map(lambda each: self._start(each, before), joining))
            self._wait(pool, joining, set(before))
            list(pool.map(self._give_up, [each for each in joining if each.state in {"waits", "runs"}]))
        for each in [gone for gone in joining if gone.state == "taken"]:
            passed_over[each.place.worker] = each.said
        return FleetUp(
            cluster=self.cluster.address,
            ray=self.version,
            seconds=round(time.monotonic() - began_s, 3),
            nodes=tuple(_told(each) for each in joining if each.state != "taken"),
            passed_over=passed_over,
        )

    def _start(self, one: _Joining, before: Mapping[str, RayNode]) -> None:
        """Start it; a holder that has it already says so, and keeps it.

        Where there was no answer it may have started: it is waited for, and ended with what does not join.
        """
        host = host_of(one.place)
        known = any(node.labels.get(GPU_LABEL) == one.place.gpus[0] for node in before.values())
        answer = _ask(host, "start", node_order(one.place, self.cluster))
        if isinstance(answer, _NoAnswer) and answer.unknown:
            one.state, one.said = "runs" if known else "waits", answer.why
        elif isinstance(answer, _NoAnswer):
            one.fail(answer.why)
        elif answer["state"] == "started":
            self.tell(f"{one.place.worker}: starts on {host.name} in image {one.place.image}")
        elif answer["state"] == "running":
            one.state = "there" if known else "runs"
        elif answer["state"] == "failed":
            one.fail(answer["reason"])
        else:
            one.state, one.said = "taken", f"{answer['state']}: {answer.get('by') or answer.get('reason')}"

    def _wait(self, pool: ThreadPoolExecutor, joining: Sequence[_Joining], before: set[str]) -> None:
        deadline_s = time.monotonic() + self.patience_s
        while waiting := [each for each in joining if each.state in {"waits", "runs"}]:
            alive = self._alive()
            for each in waiting:
                of_gpu = [node for node in alive if node.labels.get(GPU_LABEL) == each.place.gpus[0]]
                if any(node.id not in before or each.state == "runs" for node in of_gpu):
                    each.state, each.said = "joined", ""
                    self.tell(f"{each.place.worker}: has joined")
            list(pool.map(self._look_after, [each for each in waiting if each.state != "joined"]))
            if time.monotonic() > deadline_s:
                return
            time.sleep(EVERY_S)

    def _alive(self) -> list[RayNode]:
        """Nodes that the head has; none while it gives no answer, which it may give a moment later."""
        try:
            alive = [node for node in self.head.nodes() if node.alive]
        except (EngineUnavailable, EngineRefused) as error:
            self._trouble = error.message
            return []
        self._trouble = ""
        return alive

    def _look_after(self, one: _Joining) -> None:
        """Whether its holder still has it; no answer is no end.

        Nor is a start without an answer that is not seen yet: a slow server may carry it out later.
        """
        host = host_of(one.place)
        answer = _ask(host, "states", {"folder": host.folder, "workers": [one.name]})
        if isinstance(answer, _NoAnswer):
            return
        (state,) = answer["workers"]
        if state["running"]:
            one.said = ""
        elif not one.said:
            one.fail(state["said"] or f"ended with exit code {state['exit_code']}")

    def _give_up(self, one: _Joining) -> None:
        """What has not joined by now holds its GPU no longer."""
        host = host_of(one.place)
        answer = _ask(host, "stop", {"folder": host.folder, "workers": [one.name], "grace_s": GRACE_S})
        alone = (
            f"runs, and did not join {self.cluster.address} within {self.patience_s:.0f} s: server and head "
            "must reach each other on all ports, not by ssh alone"
        )
        said = one.said or self._trouble or alone
        if isinstance(answer, _NoAnswer):
            said += f"; it may run: asked to stop, {host.name} says: {answer.why}; `fleet down` ends it"
        one.fail(said)


def take_down(cluster: RayCluster, hosts: Sequence[Host], tell: Tell = lambda _: None) -> FleetDown:
    """End all nodes of a cluster that this user has on these servers, whichever process asked for them."""
    began_s = time.monotonic()

    def stop(host: Host) -> dict[str, Any] | _NoAnswer:
        known = _ask(host, "states", {"folder": host.folder, "ending": cluster.ending})
        if isinstance(known, _NoAnswer):
            return known
        names = [state["worker"] for state in known["workers"] if state["running"]]
        for name in names:
            tell(f"{name.removesuffix(cluster.ending)}: asked to leave")
        order = {"folder": host.folder, "workers": names, "grace_s": GRACE_S}
        return _ask(host, "stop", order, 2 * GRACE_S + ANSWER_S) if names else {"workers": []}

    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="down") as pool:
        answers = list(pool.map(stop, hosts))
    nodes, silent = [], {}
    for host, answer in zip(hosts, answers, strict=True):
        if isinstance(answer, _NoAnswer):
            silent[host.name] = answer.why
            continue
        for state in answer["workers"]:
            if state["running"]:
                silent[host.name] = f"{state['worker']} does not end"
            else:
                nodes.append(_ended(host, state, cluster))
    if not (nodes or silent):
        tell(
            f"no node of {cluster.address} was found: another spelling of the address is another cluster, "
            "and another user's nodes are not yours"
        )
    return FleetDown(
        cluster=cluster.address,
        seconds=round(time.monotonic() - began_s, 3),
        nodes=tuple(nodes),
        silent=silent,
    )


def _ended(host: Host, state: Mapping[str, Any], cluster: RayCluster) -> NodeDown:
    node = state["worker"].removesuffix(cluster.ending)
    return NodeDown(node=node, server=host.name, exit_code=int(state["exit_code"]), said=state["said"])


def _told(one: _Joining) -> NodeUp:
    place = one.place
    return NodeUp.model_validate(
        {
            "node": place.worker,
            "server": host_of(place).name,
            "gpu": place.gpus[0],
            "type": place.type,
            "image": place.image,
            "state": one.state,
            "said": one.said,
        }
    )


def _ask(
    host: Host, action: str, order: Mapping[str, Any], timeout_s: float = ANSWER_S
) -> dict[str, Any] | _NoAnswer:
    """A holder's answer, or why there is none."""
    try:
        answer = run_there(host.reach, "holder", action, data=json.dumps(order).encode(), timeout_s=timeout_s)
    except OSError as error:
        return _NoAnswer(f"{error.filename or 'ssh'}: {(error.strerror or str(error)).lower()}")
    if answer.code is None:
        return _NoAnswer(f"no answer in {timeout_s:.0f} s", unknown=True)
    if answer.code == SSH_FAILED and host.reach:
        return _NoAnswer(silence_of_ssh(answer).reason, unknown=True)
    line = answered(answer)
    if line is None:
        return _NoAnswer(f"the holder failed: {answer.last_line or f'exit code {answer.code}'}")
    found: dict[str, Any] = json.loads(line)
    return _NoAnswer(found["problem"], unknown=True) if "problem" in found else found
