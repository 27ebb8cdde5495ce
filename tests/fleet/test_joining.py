"""Nodes join and leave under real holders of this machine; the cluster that they join is stood in for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.holding import Server, server_in
from tests.support.patience import until

from embedmill.devices.locks import holder_of
from embedmill.engines.ray.head import RayNode
from embedmill.errors import EngineUnavailable
from embedmill.fleet.joining import Up, take_down
from embedmill.fleet.nodes import GPU_LABEL, RayCluster
from embedmill.types import Host, Look, Placement

CLUSTER = RayCluster("10.0.0.1:6379", "a-secret")
OTHER = RayCluster("10.0.0.2:6379", "a-secret")
STAYS = ("sh", "-c", "exec sleep 60")
HEARS_NOTHING_ONCE = 'sh -c "$0"; code=$?; mkdir {} 2>/dev/null && exit 255; exit $code'
"""Does what it is told, as ssh does; the first time the connection breaks before the answer."""
SPEAKS_AND_ENDS = ("sh", "-c", "echo gpu-01 cannot reach 10.0.0.1:6379 >&2; exit 75")


@dataclass
class Head:
    """A head that knows the nodes of these GPUs. `away`: so many questions after the first have no answer."""

    gpus: dict[str, str] = field(default_factory=dict)
    late: dict[str, str] = field(default_factory=dict)
    asked: int = 0
    away: int = 0

    def nodes(self) -> list[RayNode]:
        """`late` ones from the second question on."""
        self.asked += 1
        if 1 < self.asked <= 1 + self.away:
            raise EngineUnavailable("the head is away")
        known = {**self.gpus, **(self.late if self.asked > 1 else {})}
        return [RayNode(name, "10.0.0.9", 6380, True, {GPU_LABEL: gpu}) for name, gpu in known.items()]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with server_in(tmp_path / "fleet") as found:
        yield found


def place(
    server: Server, number: int = 0, command: tuple[str, ...] = STAYS, reach: tuple[str, ...] = ()
) -> Placement:
    here = Host("gpu-01", reach, str(server.folder))
    return Placement(f"gpu-01-{number}", host=here, gpus=(f"GPU-{number}",), command=command, image="cpu")


def up(head: Head, *, cluster: RayCluster = CLUSTER, patience_s: float = 20) -> Up:
    return Up(cluster, head, "2.60.0", patience_s)


def test_a_gpu_joins_once_and_is_there_the_next_time(server: Server) -> None:
    look = Look((place(server),), {"gpu-02": "unreachable: no route to host"})
    first = up(Head(late={"n1": "GPU-0"})).run(lambda: look, {"image old": "has no Ray"})
    assert [(node.node, node.state) for node in first.nodes] == [("gpu-01-0", "joined")]
    assert first.passed_over == {"image old": "has no Ray", "gpu-02": "unreachable: no route to host"}
    again = up(Head({"n1": "GPU-0"})).run(lambda: look, {})
    assert [(node.node, node.state) for node in again.nodes] == [("gpu-01-0", "there")]


def test_an_earlier_node_of_the_same_gpu_that_the_head_still_knows_is_not_taken_for_the_new_one(
    server: Server,
) -> None:
    found = up(Head({"dead": "GPU-0"}), patience_s=1).run(lambda: Look((place(server),)), {})
    assert [node.state for node in found.nodes] == ["failed"]


def test_a_node_that_does_not_join_gives_its_gpu_back_and_says_why(server: Server) -> None:
    found = up(Head(), patience_s=1).run(lambda: Look((place(server),)), {})
    (node,) = found.nodes
    assert node.state == "failed"
    assert "did not join 10.0.0.1:6379 within 1 s" in node.said
    assert holder_of(str(server.folder), "GPU-0") is None


def test_a_node_that_ends_is_told_by_its_last_words_before_patience_ends(server: Server) -> None:
    look = Look((place(server, command=SPEAKS_AND_ENDS),))
    (node,) = up(Head(), patience_s=10_000).run(lambda: look, {}).nodes
    assert (node.state, node.said) == ("failed", "gpu-01 cannot reach 10.0.0.1:6379")


def test_a_start_whose_answer_is_lost_is_waited_for(server: Server, tmp_path: Path) -> None:
    reach = ("sh", "-c", HEARS_NOTHING_ONCE.format(tmp_path / "lost"))
    head = Head(late={"n1": "GPU-0"})
    (node,) = up(head).run(lambda: Look((place(server, reach=reach),)), {}).nodes
    assert (node.state, node.said) == ("joined", "")
    assert holder_of(str(server.folder), "GPU-0") is not None


def test_a_node_that_is_there_stays_where_the_answer_is_lost(server: Server, tmp_path: Path) -> None:
    up(Head(late={"n1": "GPU-0"})).run(lambda: Look((place(server),)), {})
    reach = ("sh", "-c", HEARS_NOTHING_ONCE.format(tmp_path / "lost"))
    up(Head({"n1": "GPU-0"}), patience_s=1).run(lambda: Look((place(server, reach=reach),)), {})
    assert holder_of(str(server.folder), "GPU-0") is not None


def test_a_start_whose_answer_is_lost_is_ended_where_it_does_not_join(server: Server, tmp_path: Path) -> None:
    reach = ("sh", "-c", HEARS_NOTHING_ONCE.format(tmp_path / "lost"))
    (node,) = up(Head(), patience_s=1).run(lambda: Look((place(server, reach=reach),)), {}).nodes
    assert (node.state, "did not join" in node.said) == ("failed", True)
    assert holder_of(str(server.folder), "GPU-0") is None


def test_a_server_that_is_never_heard_is_told_with_what_may_go_on_there(server: Server) -> None:
    reach = ("sh", "-c", "echo no route to host >&2; exit 255")
    (node,) = up(Head(), patience_s=1).run(lambda: Look((place(server, reach=reach),)), {}).nodes
    assert node.state == "failed"
    assert node.said.startswith("no route to host")
    assert "it may run" in node.said


def test_a_head_that_is_away_for_a_moment_is_asked_again(server: Server) -> None:
    head = Head(late={"n1": "GPU-0"}, away=1)
    (node,) = up(head).run(lambda: Look((place(server),)), {}).nodes
    assert node.state == "joined"


def test_a_head_that_stays_away_leaves_no_gpu_held(server: Server) -> None:
    (node,) = up(Head(away=99), patience_s=1).run(lambda: Look((place(server),)), {}).nodes
    assert (node.state, node.said) == ("failed", "the head is away")
    assert holder_of(str(server.folder), "GPU-0") is None


def test_a_gpu_that_somebody_took_meanwhile_is_passed_over(server: Server) -> None:
    server.start("other", ["GPU-0"])
    found = up(Head()).run(lambda: Look((place(server),)), {})
    assert found.nodes == ()
    assert "taken: " in found.passed_over["gpu-01-0"]


def test_down_ends_the_nodes_of_this_cluster_and_no_others(server: Server) -> None:
    up(Head(late={"n1": "GPU-0"})).run(lambda: Look((place(server),)), {})
    up(Head(late={"n2": "GPU-1"}), cluster=OTHER).run(lambda: Look((place(server, 1),)), {})
    server.start("loop", ["GPU-2"])
    here = Host("gpu-01", (), str(server.folder))
    found = take_down(CLUSTER, [here])
    assert [(node.node, node.server) for node in found.nodes] == [("gpu-01-0", "gpu-01")]
    assert found.silent == {}
    assert holder_of(str(server.folder), "GPU-0") is None
    assert holder_of(str(server.folder), "GPU-1") is not None
    assert server.runs("loop")
    assert take_down(CLUSTER, [here]).nodes == (), "what has left is no news"


def test_down_names_a_server_that_gives_no_answer(server: Server) -> None:
    silent = Host("gpu-09", ("sh", "-c", "echo no route to host >&2; exit 255"), str(server.folder))
    lines: list[str] = []
    found = take_down(CLUSTER, [silent], lines.append)
    assert found.nodes == ()
    assert "no route to host" in found.silent["gpu-09"]
    assert lines == [], "whether there is a node nobody knows"


def test_down_takes_notes_that_cannot_be_read_for_silence(server: Server) -> None:
    server.start(f"gpu-01-0{CLUSTER.ending}", ["GPU-0"])
    notes = server.folder / "workers" / str(os.getuid())
    notes.chmod(0o777)
    found = take_down(CLUSTER, [Host("gpu-01", (), str(server.folder))])
    notes.chmod(0o700)
    assert (found.nodes, list(found.silent)) == ((), ["gpu-01"])
    assert "is not this user's alone" in found.silent["gpu-01"]


def test_down_says_where_nothing_of_the_cluster_is(server: Server) -> None:
    up(Head(late={"n1": "GPU-0"})).run(lambda: Look((place(server),)), {})
    said: list[str] = []
    take_down(RayCluster("head:6379"), [Host("gpu-01", (), str(server.folder))], said.append)
    (line,) = said
    assert line.startswith("no node of head:6379 was found: another spelling")


def test_a_node_whose_asker_is_gone_is_found_by_its_name(server: Server) -> None:
    """As after a `fleet up` that was killed: nothing but the server knows of the node."""
    server.start(f"gpu-01-0{CLUSTER.ending}", ["GPU-0"])
    (node,) = take_down(CLUSTER, [Host("gpu-01", (), str(server.folder))]).nodes
    assert node.node == "gpu-01-0"
    until(lambda: holder_of(str(server.folder), "GPU-0") is None, "its lock is free")
