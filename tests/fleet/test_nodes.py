"""What a server is told so that its GPU becomes a node of Ray: in which container, with what secret."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest
from tests.fleet.facts import gpu, host
from tests.fleet.test_placing import ID, TOOL

from embedmill.errors import SpecError
from embedmill.fleet.container import Borrowed, Room
from embedmill.fleet.nodes import RayCluster, in_node_container, node_order, with_ray
from embedmill.fleet.placing import Spot, Start
from embedmill.spec import ImagesSpec
from embedmill.spec.fleet import RoomSpec, ServerSpec
from embedmill.types import Host, Placement, YieldRule

CLUSTER = RayCluster("10.0.0.1:6379", "a-secret")
GPU = "GPU-00000000-1111-2222-3333-444444444444"
PLACE = Placement(
    "gpu-01-0",
    device="cuda",
    threads=3,
    host=Host("gpu-01", ("ssh", "gpu-01"), "/var/tmp/embedmill"),
    gpus=(GPU,),
    command=("podman", "run", "IMAGE"),
    yields=YieldRule(baseline_mib=30),
    cleanup=("podman", "rm", "--force", "x"),
    cid_file="/var/tmp/embedmill/x.cid",
    image="onnx-cuda12",
    type="Tesla T4",
)
IMAGES = ImagesSpec.model_validate(
    {
        "images": {
            "new": {
                "image": ID,
                "runtimes": {"onnx": "1"},
                "device": "cpu",
                "ray": "2.60.0",
                "replaces": "old",
            },
            "old": {"image": ID, "runtimes": {"onnx": "1"}, "device": "cpu", "ray": "2.52.1"},
            "none": {"image": ID, "runtimes": {"onnx": "1"}, "device": "cpu"},
        }
    }
)


def test_a_node_tells_the_cluster_where_it_is_and_in_which_image() -> None:
    words = node_order(PLACE, CLUSTER)["command"]
    labels = [word for flag, word in itertools.pairwise(words) if flag == "--label"]
    assert labels == [
        "embedmill.io/server=gpu-01",
        f"embedmill.io/gpu={GPU}",
        "embedmill.io/image=onnx-cuda12",
    ]
    assert words[:6] == ["podman", "run", "IMAGE", "ray-node", "--address", "10.0.0.1:6379"]
    assert words[words.index("--cpus") + 1] == "3"
    assert words[words.index("--gpus") + 1] == "1"


def test_a_node_tells_actors_how_much_of_its_gpus_memory_they_may_take() -> None:
    limited = dataclasses.replace(PLACE, gpu_memory_mib=8000)
    assert "embedmill.io/gpu-memory-mib=8000" in node_order(limited, CLUSTER)["command"]


def test_a_node_on_a_cpu_image_offers_no_gpu() -> None:
    words = node_order(dataclasses.replace(PLACE, device="cpu"), CLUSTER)["command"]
    assert words[words.index("--gpus") + 1] == "0"


def test_the_token_is_in_the_input_alone() -> None:
    order = node_order(PLACE, CLUSTER)
    assert json.loads(order.pop("input")) == {"RAY_AUTH_TOKEN": "a-secret"}
    assert order["command"][-1] == "--environment-stdin"
    assert "a-secret" not in json.dumps(order)
    assert "a-secret" not in repr(CLUSTER)


def test_the_holder_watches_over_a_node_as_over_a_worker() -> None:
    order = node_order(PLACE, CLUSTER)
    assert (order["gpus"], order["watch"]["baseline_mib"]) == ([GPU], 30)
    assert order["cleanup"] == ["podman", "rm", "--force", "x"]
    assert order["cidfile"] == "/var/tmp/embedmill/x.cid"


def test_nodes_of_two_clusters_have_different_names() -> None:
    other = RayCluster("10.0.0.2:6379")
    assert node_order(PLACE, CLUSTER)["worker"].endswith(CLUSTER.ending)
    assert CLUSTER.ending != other.ending
    assert CLUSTER.name != other.name


def test_a_container_is_that_of_worker_loops_in_the_network_of_its_server() -> None:
    command = started().command
    assert {"--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"} <= set(command)
    assert "--network=host" in command
    assert "--shm-size=256m" in command
    assert any(word.startswith("--user=") for word in command)


def test_what_fleet_yaml_says_of_network_and_memory_is_kept() -> None:
    command = started("--net=mesh", "--ipc=host").command
    assert "--net=mesh" in command
    assert not any(word.startswith(("--network", "--shm-size")) for word in command)


def test_only_images_with_the_ray_of_the_cluster_are_taken_and_the_others_say_why() -> None:
    usable, refused = with_ray(IMAGES, "2.60.0")
    assert list(usable.images) == ["new"]
    assert refused == {
        "image old": "has Ray 2.52.1, and the cluster has 2.60.0",
        "image none": "has no Ray, and the cluster has 2.60.0",
    }
    assert usable.images["new"].replaces is None, "what it replaces cannot join"


def test_images_that_the_pipeline_does_not_name_are_no_news() -> None:
    usable, refused = with_ray(IMAGES, "2.52.1", {"old"})
    assert (list(usable.images), refused) == (["old"], {})


def test_where_no_image_can_join_nothing_is_looked_for() -> None:
    with pytest.raises(SpecError, match=r"none has no Ray, and the cluster has 2\.60\.0") as refused:
        with_ray(IMAGES, "2.60.0", {"none"})
    assert "images render … --ray 2.60.0" in refused.value.hint


def started(*arguments: str) -> Start:
    image = IMAGES.images["new"]
    facts = host(gpu(), tools=(TOOL,))
    server = ServerSpec(arguments=arguments)
    spot = Spot("gpu-01-0", server, RoomSpec(), facts, Borrowed(facts.gpus[0], rule="cpu"), image)
    return in_node_container(CLUSTER, Room())(spot)
