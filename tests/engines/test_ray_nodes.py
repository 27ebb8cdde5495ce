"""What nodes of a Ray cluster hold: by resources and labels, and in words where nothing fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from embedmill.engines.ray import Family, Node, capacity, lacking

MIB = 1 << 20


def node(address: str = "10.0.0.1", *, alive: bool = True, labels: Any = None, **resources: float) -> Node:
    has = {"CPU": 4.0, "memory": 16384.0 * MIB, **resources}
    return Node(address, address, alive, has, labels or {})


@pytest.mark.parametrize(
    ("family", "there", "count"),
    [
        (Family("f"), node(), 4),
        (Family("f", cpus=3), node(), 1),
        (Family("f", memory_mib=8192), node(), 2),
        (Family("f", gpus=1), node(), 0),
        (Family("f", gpus=1), node(GPU=2.0), 2),
        (Family("f", resources={"TPU": 4}), node(TPU=4.0), 1),
        (Family("f", resources={"slot": 0.1}), node(CPU=9.0, memory=99999.0 * MIB, slot=0.3), 3),
        (Family("f", accelerator="T4"), node(), 0),
        (
            Family("f", accelerator="T4"),
            replace(node(), resources={**node().resources, "accelerator_type:T4": 1.0}),
            4,
        ),
        (Family("f", labels={"pool": "night"}), node(labels={"pool": "night", "x": "y"}), 4),
        (Family("f", labels={"pool": "night"}), node(labels={"pool": "day"}), 0),
        (Family("f"), node(CPU=0.0), 0),
    ],
)
def test_a_node_holds_what_its_resources_and_labels_allow(family: Family, there: Node, count: int) -> None:
    assert there.holds(family) == count
    assert bool(lacking(family, [there])) == (count == 0)


def test_nodes_that_are_gone_hold_nothing() -> None:
    nodes = [node("a"), node("b", alive=False), node("c", CPU=1.0)]
    assert capacity(Family("f"), nodes) == 5


@pytest.mark.parametrize(
    ("family", "nodes", "words"),
    [
        (Family("f"), [], "no node has joined; the cluster has 0 nodes"),
        (
            Family("f", labels={"pool": "night"}),
            [node("a", labels={"pool": "day"}), node("b")],
            "no node has pool=night; there are 2 nodes, with pool=day",
        ),
        (
            Family("f", labels={"pool": "night"}),
            [node()],
            "no node has pool=night; there are 1 nodes, with no such label",
        ),
        (
            Family("f", cpus=8, gpus=1, accelerator="A100"),
            [node("10.0.0.7", GPU=1.0)],
            (
                "no node has 8 CPU, 4096 MiB, 1 GPU, A100 together: "
                "10.0.0.7 has 4 CPU, 16384 MiB, 1 GPU, no A100"
            ),
        ),
    ],
)
def test_what_no_node_has_is_said_with_what_there_is(family: Family, nodes: list[Node], words: str) -> None:
    assert lacking(family, nodes) == words


def test_an_actors_options_ask_for_what_the_count_was_made_of() -> None:
    family = Family("f", 2, 1, "T4", {"slot": 1}, {"pool": "night"}, 512)
    assert family.options() == {
        "num_cpus": 2,
        "num_gpus": 1,
        "memory": 512 * MIB,
        "resources": {"slot": 1},
        "accelerator_type": "T4",
        "label_selector": {"pool": "night"},
    }


def test_a_node_is_read_as_ray_tells_it() -> None:
    told = {
        "NodeID": "ab12",
        "Alive": True,
        "NodeManagerAddress": "10.0.0.1",
        "Resources": {"CPU": 1.0},
        "Labels": {"ray.io/node-id": "ab12"},
    }
    assert Node.parse(told) == Node("ab12", "10.0.0.1", True, {"CPU": 1.0}, {"ray.io/node-id": "ab12"})
    assert Node.parse({"NodeID": "cd", "Alive": False}).resources == {}
