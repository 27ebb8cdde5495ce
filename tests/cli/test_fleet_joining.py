"""`fleet up` and `fleet down` as people type them: what is refused at once, and what `down` prints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.terminal import Terminal
from tests.support.holding import Server, server_in

from embedmill.fleet.nodes import RayCluster

HEAD = "127.0.0.1:6379"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with server_in(tmp_path / "locks") as found:
        yield found


@pytest.fixture
def fleet(tmp_path: Path, server: Server) -> Path:
    """Of this machine alone."""
    here = {"kind": "local", "folder": str(server.folder)}
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump({"servers": {"here": here}, "images": "images.yaml"}))
    return tmp_path / "fleet.yaml"


def pipeline(root: Path, **more: Any) -> Path:
    spec = {
        "name": "shop",
        "catalog": {"source": "items.parquet", "id": "sku"},
        "model": "model",
        "store": "s3://bucket/mill",
        **more,
    }
    (root / "pipeline.yaml").write_text(yaml.safe_dump(spec))
    return root / "pipeline.yaml"


def test_a_fleet_alone_says_nothing_of_a_cluster(fleet: Path, embedmill: Terminal) -> None:
    for command in ("up", "down"):
        said = embedmill("fleet", command, fleet)
        assert said.code == 2
        assert "says nothing of a cluster of Ray" in said.err
        assert "--address HOST:6379" in said.err


def test_a_pipeline_without_a_cluster_or_servers_says_what_to_write(
    tmp_path: Path, embedmill: Terminal
) -> None:
    assert "write `ray: …`" in embedmill("fleet", "up", pipeline(tmp_path)).err
    cluster = {"address": HEAD, "families": {"cpu": {}}}
    assert "no servers are named" in embedmill("fleet", "up", pipeline(tmp_path, ray=cluster)).err


def test_a_cluster_without_a_token_is_joined_on_loopback_alone(fleet: Path, embedmill: Terminal) -> None:
    said = embedmill("fleet", "up", fleet, "--address", "10.0.0.1:6379")
    assert said.code == 2
    assert "10.0.0.1:6379: whoever reaches it needs a token" in said.err


@pytest.mark.parametrize(("text", "words"), [(None, "cannot be read: no such file"), (" \n", "has no token")])
def test_a_token_that_is_missing_is_named(
    text: str | None, words: str, fleet: Path, tmp_path: Path, embedmill: Terminal
) -> None:
    if text is not None:
        (tmp_path / "token").write_text(text)
    said = embedmill("fleet", "up", fleet, "--address", "10.0.0.1:6379", "--token-file", tmp_path / "token")
    assert (said.code, words in said.err) == (2, True), said.err


def test_where_clients_connect_no_node_can_join(fleet: Path, embedmill: Terminal) -> None:
    said = embedmill("fleet", "up", fleet, "--address", "ray://10.0.0.1:10001")
    assert said.code == 2
    assert "is not where nodes join" in said.err


def test_down_needs_no_token_and_tells_what_left(fleet: Path, server: Server, embedmill: Terminal) -> None:
    address = "10.0.0.1:6379"
    server.start(f"here-0{RayCluster(address).ending}", ["GPU-0"])
    found = embedmill.json("fleet", "down", fleet, "--address", address)
    assert found["schema"] == "fleet-down/1"
    assert [(node["node"], node["server"]) for node in found["nodes"]] == [("here-0", "here")]
    again = embedmill("fleet", "down", fleet, "--address", address)
    assert again.code == 0
    assert "here-0" not in again.out


def test_down_ends_with_1_where_a_server_is_silent(tmp_path: Path, embedmill: Terminal) -> None:
    gone = {"address": "127.0.0.1", "port": 1, "options": ["-F", "/dev/null"]}
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump({"servers": {"gone": gone}}))
    said = embedmill("fleet", "down", tmp_path / "fleet.yaml", "--address", HEAD)
    assert said.code == 1
    assert "gone: " in said.err


def test_a_node_that_cannot_reach_its_head_says_so(embedmill: Terminal) -> None:
    said = embedmill("ray-node", "--address", "127.0.0.1:1")
    assert said.code == 75
    assert "cannot reach 127.0.0.1:1, the head of the cluster: connection refused" in said.err


def test_the_command_that_nobody_types_is_not_shown(embedmill: Terminal) -> None:
    assert "ray-node" not in embedmill("--help").out
