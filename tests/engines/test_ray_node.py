"""How a GPU server becomes a node: what Ray is told, and where the token lies."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from embedmill.engines.ray.node import (
    DRAIN_S,
    LEAVE_S,
    NodeOrder,
    join,
    node_environment,
    start_command,
    token_file,
)
from embedmill.errors import EngineUnavailable

ORDER = NodeOrder("10.0.0.1:6379", {"embedmill.io/server": "gpu-01", "embedmill.io/image": "cpu"}, 3, 1)


def test_ray_is_told_what_there_is_and_finds_nothing_by_itself(tmp_path: Path) -> None:
    words = start_command(ORDER, "10.0.0.7", tmp_path)
    assert "start" in words
    told = dict(word.removeprefix("--").split("=", 1) for word in words if "=" in word)
    assert (told["address"], told["node-ip-address"]) == ("10.0.0.1:6379", "10.0.0.7")
    assert (told["num-cpus"], told["num-gpus"]) == ("3", "1")
    assert told["labels"] == "embedmill.io/server=gpu-01,embedmill.io/image=cpu"
    assert int(told["object-store-memory"]) == 128 << 20
    assert told["temp-dir"] == str(tmp_path)


def test_two_nodes_on_one_server_ask_for_no_port_of_each_other(tmp_path: Path) -> None:
    words = start_command(ORDER, "10.0.0.7", tmp_path)
    ports = {word.split("=")[0]: word.split("=")[1] for word in words if "port=" in word}
    assert set(ports.values()) == {"0"}
    assert "--dashboard-agent-listen-port" in ports, "the one that Ray would choose alike for both"


def test_the_token_is_in_memory_where_nobody_else_reads_it_and_in_no_variable() -> None:
    with token_file("a-secret") as secret:
        found = node_environment(secret)
        assert found["RAY_AUTH_MODE"] == "token"
        file = Path(found["RAY_AUTH_TOKEN_PATH"])
        assert file.parent == Path("/dev/shm")
        assert file.read_text() == "a-secret"
        assert file.stat().st_mode & 0o777 == 0o600
        assert not any("a-secret" in value for value in found.values())
    assert not file.exists()


def test_a_token_is_never_written_to_a_disk(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="is not in memory"), token_file("a-secret", tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_a_token_ray_is_told_so_and_makes_none() -> None:
    with token_file(None) as secret:
        found = node_environment(secret)
    assert found["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN_PATH" not in found
    assert found["RAY_USAGE_STATS_ENABLED"] == "0"


def test_a_node_leaves_within_what_a_holder_in_a_hurry_gives() -> None:
    from embedmill.devices.keeping import YIELD_S

    assert float(node_environment(None)["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]) == DRAIN_S
    assert DRAIN_S < LEAVE_S < YIELD_S


def test_a_head_that_cannot_be_reached_is_named_before_ray_is_started() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(EngineUnavailable, match=f"cannot reach {address}, the head"):
        join(NodeOrder(address), None)
