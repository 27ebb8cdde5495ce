"""Model repositories of Triton: what a configuration says, and which versions lie there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.every_input import SCHEMA, every_input_package, every_item
from tests.support.mill import Mill, items

from embedmill import Release
from embedmill.deploy.triton import deploy_triton
from embedmill.deploy.triton_model import DeployedModel
from embedmill.errors import ModelError, ReleaseIncompatible, SpecError
from embedmill.model.importing import import_declared


@pytest.fixture
def release(mill: Mill) -> Release:
    mill.run(items(40))
    return mill.live()


def test_a_configuration_pins_the_version_and_has_the_limits_of_the_pipeline(mill: Mill) -> None:
    mill.settings["serving"] = {"batch_rows": 16, "queue_rows": 99, "wait_s": 0.5}
    mill.run(items(40))
    release = mill.live()
    deploy_triton(release, mill.root / "repository", kind="gpu", instances=2)
    assert (
        (mill.root / "repository" / "test-query_text" / "config.pbtxt").read_text()
        == f'''\
name: "test-query_text"
backend: "python"
max_batch_size: 16
input {{
  name: "query"
  data_type: TYPE_STRING
  dims: 1
}}
output {{
  name: "embedding"
  data_type: TYPE_FP32
  dims: 16
}}
version_policy {{
  specific {{
    versions: 1
  }}
}}
instance_group {{
  kind: KIND_GPU
  count: 2
}}
dynamic_batching {{
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: 500000
    max_queue_size: 99
  }}
}}
parameters {{
  key: "embedmill-release"
  value {{
    string_value: "{release.name}"
  }}
}}
parameters {{
  key: "embedmill-release-number"
  value {{
    string_value: "1"
  }}
}}
parameters {{
  key: "embedmill-model"
  value {{
    string_value: "{release.content.package_digest}"
  }}
}}
'''
    )


def test_numbers_and_booleans_may_be_absent_and_all_else_is_a_string(tmp_path: Path) -> None:
    settings = {"catalog": {"source": "items.parquet", "id": "sku"}}
    mill = Mill(tmp_path, every_input_package(tmp_path / "model"), SCHEMA, settings=settings)
    mill.run(every_item(20))
    deploy_triton(mill.live(), tmp_path / "repository")
    config = (tmp_path / "repository" / "test-item" / "config.pbtxt").read_text()
    inputs = [part.split("}")[0] for part in config.split("input {")[1:]]
    kinds = {part.split('"')[1]: part.split("TYPE_")[1].split()[0] for part in inputs}
    assert kinds.pop("price") == "FP64"
    assert kinds.pop("stock") == "BOOL"
    assert set(kinds.values()) == {"STRING"}
    assert {part.split('"')[1] for part in inputs if "optional: true" in part} == {"price", "stock"}


def test_the_next_release_lies_beside_the_last_and_is_the_one_that_is_pinned(
    mill: Mill, release: Release
) -> None:
    repository = mill.root / "repository"
    deploy_triton(release, repository)
    mill.run(items(41))
    deploy_triton(mill.live(), repository)
    folder = repository / "test-item"
    assert {path.name for path in folder.iterdir()} == {"1", "2", "config.pbtxt"}
    assert "versions: 2\n" in (folder / "config.pbtxt").read_text()
    deploy_triton(release, repository)
    assert "versions: 1\n" in (folder / "config.pbtxt").read_text(), "the way back"


def test_another_release_with_the_same_number_is_refused(
    mill: Mill, release: Release, tmp_path: Path
) -> None:
    deploy_triton(release, tmp_path / "repository")
    mill.run(items(41))
    with pytest.raises(SpecError, match="is there already, and holds another release"):
        deploy_triton(mill.live(), tmp_path / "repository", number=1)


def test_a_release_outside_of_its_store_needs_a_number(release: Release, tmp_path: Path) -> None:
    copy = Release.open(shutil.copytree(release.folder, tmp_path / "copy"))
    with pytest.raises(ReleaseIncompatible, match="its number is not known here"):
        deploy_triton(copy, tmp_path / "repository")
    assert deploy_triton(copy, tmp_path / "repository", number=7).number == 7


def test_who_edits_the_repository_does_not_edit_the_release(release: Release, tmp_path: Path) -> None:
    deploy_triton(release, tmp_path)
    before = (release.model_folder / "model.yaml").read_bytes()
    file = tmp_path / "test-item" / "1" / "package" / "model.yaml"
    file.chmod(0o644)
    with file.open("a") as out:
        out.write("# mine\n")
    assert (release.model_folder / "model.yaml").read_bytes() == before


def test_the_code_of_every_model_is_the_same_and_values_lie_beside_it(
    release: Release, tmp_path: Path
) -> None:
    deploy_triton(release, tmp_path, threads=3)
    folders = [tmp_path / f"test-{encoder}" / "1" for encoder in ("item", "query_text")]
    assert len({(folder / "model.py").read_bytes() for folder in folders}) == 1
    deployed = json.loads((folders[1] / "deployed.json").read_bytes())
    assert (deployed["encoder"], deployed["threads"], deployed["number"]) == ("query_text", 3, 1)


@pytest.fixture
def model(release: Release, tmp_path: Path) -> DeployedModel:
    deploy_triton(release, tmp_path)
    return DeployedModel.load(tmp_path / "test-item" / "1")


def strings(*values: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]]:
    return np.array(values, dtype=object)[:, None]


def test_requests_are_computed_together_and_answered_apart(model: DeployedModel) -> None:
    category = strings(b"all", b"all")
    one = {"title": strings(b"item 1", b"item 2"), "category": category}
    two = {"title": strings(b"item 3"), "category": category[:1]}
    first, second = model.answer([one, two])
    assert not isinstance(first, str)
    assert not isinstance(second, str)
    assert (first.shape, second.shape) == ((2, 16), (1, 16))
    assert first.dtype == np.float32
    (alone,) = model.answer([two])
    assert not isinstance(alone, str)
    np.testing.assert_allclose(alone, second, atol=1e-6)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"titel": strings(b"x")}, "the encoder does not read 'titel'"),
        ({"title": strings(b"\xff"), "category": strings(b"x")}, "title: a text is not UTF-8"),
        ({"title": strings(b"a", b"b"), "category": strings(b"x")}, "rows of each"),
        ({"title": np.ones((1, 1))}, "not a string for each row"),
    ],
)
def test_a_request_that_cannot_be_read_is_to_blame_alone(
    model: DeployedModel, bad: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.object_]]], says: str
) -> None:
    good = {"title": strings(b"item 1"), "category": strings(b"all")}
    refused, answered = model.answer([bad, good])
    assert isinstance(refused, str)
    assert says in refused
    assert not isinstance(answered, str)


def test_an_encoder_without_goldens_in_the_release_proves_itself_by_those_of_its_package(
    tmp_path: Path,
) -> None:
    source = every_input_package(tmp_path / "source")
    import_declared(source / "model.onnx", source / "model.yaml", tmp_path / "package")
    settings = {"catalog": {"source": "items.parquet", "id": "sku"}}
    mill = Mill(tmp_path, tmp_path / "package", SCHEMA, settings=settings)
    mill.run(every_item(20))
    live = mill.live()
    without = Release(live.folder, live.content.model_copy(update={"goldens": ()}), number=1)
    deploy_triton(without, tmp_path / "repository")
    DeployedModel.load(tmp_path / "repository" / "test-query_text" / "1").close()
    tiny = Release(live.folder, without.content, number=2)
    shutil.rmtree(live.model_folder / "goldens")
    with pytest.raises(ReleaseIncompatible, match="has no goldens to prove itself by"):
        deploy_triton(tiny, tmp_path / "repository")


def test_a_package_that_was_changed_is_not_loaded(release: Release, tmp_path: Path) -> None:
    deploy_triton(release, tmp_path)
    folder = tmp_path / "test-item" / "1"
    with (folder / "package" / "model.yaml").open("a") as out:
        out.write("# mine\n")
    with pytest.raises(ModelError, match=f"the model package is not that of release {release.name}"):
        DeployedModel.load(folder)
