"""What a cluster's nodes can hold. Pure: documents of `ray.nodes()` in, counts and words out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MIB = 1 << 20
ACCELERATOR = "accelerator_type:"
"""How Ray names the resource of which every node with such an accelerator has some."""
TOLERANCE = 1e-4
"""Ray counts resources in ten thousandths."""


@dataclass(frozen=True)
class Family:
    """What an actor needs of its node, and what it runs there.

    `command`: what `worker …` is appended to; empty: the node's own Python. `labels` must all be the node's.
    """

    name: str
    cpus: int = 1
    gpus: int = 0
    accelerator: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    memory_mib: int = 4096
    command: tuple[str, ...] = ()

    def needs(self) -> dict[str, float]:
        """Resources, as Ray names them."""
        found: dict[str, float] = {"CPU": self.cpus, "memory": self.memory_mib * MIB, **self.resources}
        if self.gpus:
            found["GPU"] = self.gpus
        if self.accelerator:
            found[ACCELERATOR + self.accelerator] = TOLERANCE
        return found

    def options(self) -> dict[str, Any]:
        """As an actor's options have it."""
        found: dict[str, Any] = {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "memory": self.memory_mib * MIB,
            "resources": dict(self.resources),
        }
        if self.accelerator:
            found["accelerator_type"] = self.accelerator
        if self.labels:
            found["label_selector"] = dict(self.labels)
        return found


@dataclass(frozen=True)
class Node:
    """A node of a cluster; `resources` are all that it has, whoever uses them."""

    id: str
    address: str
    alive: bool
    resources: Mapping[str, float]
    labels: Mapping[str, str]

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Node:
        """Of `ray.nodes()`."""
        return cls(
            id=document["NodeID"],
            address=document.get("NodeManagerAddress", ""),
            alive=bool(document.get("Alive")),
            resources=document.get("Resources") or {},
            labels=document.get("Labels") or {},
        )

    def holds(self, family: Family) -> int:
        """How many of a family's actors fit beside each other."""
        if any(self.labels.get(name) != value for name, value in family.labels.items()):
            return 0
        needs = family.needs().items()
        return min(int(self.resources.get(name, 0) / need + TOLERANCE) for name, need in needs)


def capacity(family: Family, nodes: Sequence[Node]) -> int:
    """How many of a family's actors the nodes hold that are alive."""
    return sum(node.holds(family) for node in nodes if node.alive)


def lacking(family: Family, nodes: Sequence[Node]) -> str:
    """Why no node holds an actor of a family, and what there is; empty if one does."""
    alive = [node for node in nodes if node.alive]
    if any(node.holds(family) for node in alive):
        return ""
    labelled = [
        node for node in alive if all(node.labels.get(name) == text for name, text in family.labels.items())
    ]
    if not labelled:
        wanted = ", ".join(f"{name}={text}" for name, text in family.labels.items())
        return f"no node has {wanted or 'joined'}{_there(family.labels, alive)}"
    wanted = ", ".join(_amount(name, need) for name, need in family.needs().items())
    there = "; ".join(_has(node, family) for node in labelled)
    return f"no node has {wanted} together: {there}"


def _there(labels: Mapping[str, str], nodes: Sequence[Node]) -> str:
    found = sorted(
        {f"{name}={node.labels[name]}" for node in nodes for name in labels if name in node.labels}
    )
    if not labels or not nodes:
        return f"; the cluster has {len(nodes)} nodes"
    return f"; there are {len(nodes)} nodes, with {', '.join(found) or 'no such label'}"


def _has(node: Node, family: Family) -> str:
    amounts = ", ".join(_amount(name, node.resources.get(name, 0)) for name in family.needs())
    return f"{node.address} has {amounts}"


def _amount(name: str, amount: float) -> str:
    if name == "memory":
        return f"{int(amount / MIB)} MiB"
    if name.startswith(ACCELERATOR):
        kind = name.removeprefix(ACCELERATOR)
        return kind if amount else f"no {kind}"
    return f"{amount:g} {name}"
