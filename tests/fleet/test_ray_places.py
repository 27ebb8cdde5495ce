"""Families of a Ray cluster and places on its nodes: what is taken, what is refused with words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from embedmill.engines.ray import Connection, Node, RayEngine
from embedmill.errors import EngineUnavailable, SpecError
from embedmill.fleet.ray_places import (
    RayPlaces,
    connection_of,
    families_of,
    images_of,
    places_on_ray,
    ray_settings,
)
from embedmill.spec import PipelineSpec

MIB = 1 << 20
BUCKET = "s3://bucket/mill"
DIGEST = f"registry.internal/worker@sha256:{'ab' * 32}"
IMAGES = {
    "cu126": {"image": DIGEST, "runtimes": {"onnx": "1.22.0"}, "cuda": "12.6", "sass": ["7.5"]},
    "plain": {
        "image": DIGEST,
        "runtimes": {"onnx": "1.22.0"},
        "device": "cpu",
        "command": ["/opt/embedmill"],
    },
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images.yaml").write_text(yaml.safe_dump({"images": IMAGES}))
    return tmp_path


def spec(families: dict[str, Any], **section: Any) -> PipelineSpec:
    return PipelineSpec.model_validate(
        {
            "name": "p",
            "catalog": {"source": "items.parquet", "id": "id"},
            "model": "m",
            "store": BUCKET,
            "engine": "ray",
            "ray": {"address": "127.0.0.1:6379", "families": families, **section},
        }
    )


def node(
    address: str, labels: dict[str, str] | None = None, *, alive: bool = True, **resources: float
) -> Node:
    return Node(address, address, alive, {"CPU": 2.0, "memory": 65536.0 * MIB, **resources}, labels or {})


def looking(
    root: Path,
    families: dict[str, Any],
    nodes: list[Node],
    *,
    runtimes: tuple[str, ...] = ("onnx",),
    store: str = BUCKET,
    **section: Any,
) -> RayPlaces:
    written = spec(families, **section)
    found = places_on_ray(written, root, store, runtimes, RayEngine(Connection("127.0.0.1:1"), {}))
    return RayPlaces(
        found.namespace,
        found.families,
        found.needs,
        found.devices,
        lambda: nodes,
        found.refused,
        found.again_s,
    )


def workers(places: RayPlaces, most: int = 100, held: tuple[str, ...] = ()) -> list[str]:
    return [each.worker for each in places.look(most, held).free]


def test_auto_is_as_many_as_the_nodes_hold_and_grows_with_them(root: Path) -> None:
    nodes = [node("a")]
    places = looking(root, {"cpu": {}}, nodes)
    assert workers(places) == ["cpu-0", "cpu-1"]
    nodes.append(node("b", CPU=1.0))
    assert workers(places, held=("cpu-0", "cpu-1")) == ["cpu-2"]
    nodes[0] = node("a", alive=False)
    assert workers(places) == ["cpu-0"]


def test_a_number_of_workers_is_there_before_their_nodes_are(root: Path) -> None:
    places = looking(root, {"gpu": {"workers": 2, "gpus": 1}}, [node("a")])
    look = places.look(100, ())
    assert [(each.worker, each.device) for each in look.free] == [("gpu-0", "cuda"), ("gpu-1", "cuda")]
    assert look.passed_over == {
        "gpu": "no node has 1 CPU, 4096 MiB, 1 GPU together: a has 2 CPU, 65536 MiB, 0 GPU"
    }


def test_places_are_taken_in_order_and_none_twice(root: Path) -> None:
    places = looking(root, {"gpu": {"workers": 2}, "cpu": {"workers": 2, "cpus": 3}}, [node("a")])
    assert workers(places, 3, ("gpu-1",)) == ["gpu-0", "cpu-0", "cpu-1"]
    assert [each.threads for each in places.look(9, ("gpu-0", "gpu-1")).free] == [3, 3]


def test_nodes_of_an_image_are_those_whose_label_says_so(root: Path) -> None:
    nodes = [node("a", {"embedmill.io/image": "cu126"}, GPU=1.0), node("b", GPU=1.0)]
    places = looking(root, {"t4": {"image": "cu126", "gpus": 1}, "old": {"image": "plain"}}, nodes)
    look = places.look(9, ())
    assert [(each.worker, each.device) for each in look.free] == [("t4-0", "cuda")]
    assert "no node has embedmill.io/image=plain; there are 2 nodes, with embedmill.io/image=cu126" in str(
        look.passed_over
    )


def test_what_runs_on_a_node_is_its_images_command(root: Path) -> None:
    section = ray_settings(spec({"a": {"image": "plain"}, "b": {}}))
    families = families_of(section, images_of(section, root))
    assert (families["a"].command, families["b"].command) == (("/opt/embedmill",), ())


def test_families_that_cannot_compute_the_model_are_passed_over(root: Path) -> None:
    families = {"t4": {"image": "cu126"}, "tpu": {"resources": {"TPU": 4}}, "cpu": {}}
    look = looking(root, families, [node("a", TPU=4.0)]).look(9, ())
    assert {each.image for each in look.free} == {"cpu"}
    assert look.passed_over == {
        "t4": "its image computes on a GPU: set `gpus: 1`",
        "tpu": "a TPU computes by jax, which the model has no runtime for",
    }
    with pytest.raises(
        SpecError, match="engine ray: no family can compute the model: old: the model needs torch"
    ):
        looking(root, {"old": {"image": "plain"}}, [], runtimes=("torch",))


def test_a_tpu_is_asked_for_by_its_resource(root: Path) -> None:
    places = looking(root, {"tpu": {"resources": {"TPU": 4}}}, [node("a", TPU=4.0)], runtimes=("jax",))
    assert [each.device for each in places.look(9, ()).free] == ["tpu"]


def test_a_cluster_without_an_answer_has_no_places_and_the_run_waits(root: Path) -> None:
    def silent() -> list[Node]:
        raise EngineUnavailable("Ray at 127.0.0.1:1: no answer")

    found = looking(root, {"cpu": {}}, [])
    places = RayPlaces(found.namespace, found.families, found.needs, found.devices, silent)
    assert places.look(9, ()).passed_over == {"cluster": "Ray at 127.0.0.1:1: no answer"}
    assert places.waits


@pytest.mark.parametrize(
    ("store", "shared", "opens"),
    [
        ("s3://bucket/mill", [], True),
        ("/data/mill", [], False),
        ("/data/mill", ["/data"], True),
        ("file:///data/mill", ["/data/mill"], True),
        ("/data/mill", ["/dat"], False),
        ("memory://x", ["/x"], False),
    ],
)
def test_a_store_must_be_a_bucket_or_a_folder_of_all_nodes(
    root: Path, store: str, shared: list[str], opens: bool
) -> None:
    if opens:
        assert looking(root, {"cpu": {}}, [node("a")], store=store, shared=shared).look(1, ()).free
    else:
        with pytest.raises(SpecError, match="other nodes cannot open"):
            looking(root, {"cpu": {}}, [], store=store, shared=shared)


def test_a_token_is_read_from_beside_the_spec(root: Path) -> None:
    (root / "token").write_text("t\n")
    section = ray_settings(spec({"cpu": {}}, token_file="token"))  # noqa: S106 - a file's name
    assert connection_of(section, root) == Connection("127.0.0.1:6379", str(root / "token"))


@pytest.mark.parametrize(("text", "words"), [(None, "cannot be read"), ("\n", "is empty")])
def test_a_token_that_is_not_there_is_said_before_anything_is_asked(
    root: Path, text: str | None, words: str
) -> None:
    if text is not None:
        (root / "token").write_text(text)
    with pytest.raises(SpecError, match=words):
        connection_of(ray_settings(spec({"cpu": {}}, token_file="token")), root)  # noqa: S106


def test_an_image_that_nobody_knows_is_named(root: Path) -> None:
    section = ray_settings(spec({"t4": {"image": "cu999"}}))
    with pytest.raises(SpecError, match=r"no image 'cu999' in images\.yaml") as said:
        images_of(section, root)
    assert said.value.hint == "there are: cu126, plain"


def test_an_engine_without_a_section_says_what_is_missing(root: Path) -> None:
    bare = PipelineSpec.model_validate({**spec({"cpu": {}}).model_dump(), "ray": None})
    with pytest.raises(SpecError, match="nothing is said of the cluster"):
        ray_settings(bare)


def test_the_environment_of_who_speaks_to_ray_never_lets_it_choose(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "elsewhere")
    alone = Connection("127.0.0.1:6379").environment()
    assert alone["RAY_AUTH_MODE"] == "disabled"
    assert not {"RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(alone)
    with_token = Connection("h:6379", "/token").environment()
    assert (with_token["RAY_AUTH_MODE"], with_token["RAY_AUTH_TOKEN_PATH"]) == ("token", "/token")
    assert with_token["RAY_USAGE_STATS_ENABLED"] == "0"
