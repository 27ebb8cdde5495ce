"""What `fleet up` and `fleet down` say, for people and programs."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from embedmill.spec.document import Document, Part

NodeState = Literal["joined", "there", "failed"]
"""`joined`: now; `there`: before. `failed`: it could not be started, or did not join."""


class NodeUp(Part):
    """A GPU that is a node of the cluster, or was to become one; `said` is what was wrong."""

    node: str
    server: str
    gpu: str
    type: str
    image: str
    state: NodeState
    said: str = ""


class FleetUp(Document):
    """`fleet up`: nodes by GPU, and what was passed over. `ray`: the cluster's version."""

    SCHEMA: ClassVar[str] = "fleet-up/1"

    cluster: str
    ray: str
    seconds: float
    nodes: tuple[NodeUp, ...]
    passed_over: dict[str, str] = Field(default_factory=dict)


class NodeDown(Part):
    """A node that was ended, or had ended before; its exit code and last words."""

    node: str
    server: str
    exit_code: int
    said: str = ""


class FleetDown(Document):
    """`fleet down`: nodes that left, and servers that gave no answer, on which nodes may go on."""

    SCHEMA: ClassVar[str] = "fleet-down/1"

    cluster: str
    seconds: float
    nodes: tuple[NodeDown, ...]
    silent: dict[str, str] = Field(default_factory=dict)
