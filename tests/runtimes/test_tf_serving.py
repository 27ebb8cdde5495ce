"""Runtime `tf_serving` on the REST API of TensorFlow Serving."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from tests.contracts.runtime_suite import FEEDS, ComputingSuite
from tests.models import tiny_text_package
from tests.support.mill import Mill, items
from tests.support.tf_serving import Problem, Servable, TfServing, tf_serving, tiny

from embedmill.errors import DeviceUnavailable, ModelError, ServerUnavailable, SpecError
from embedmill.model import Encoder, ModelPackage
from embedmill.model.importing import make_goldens
from embedmill.runtimes import load_runtime
from embedmill.spec import TfServingSpec

SPEC = TfServingSpec(kind="tf_serving", model="tiny", version=7, retry_for_s=2)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TfServing]:
    with tf_serving() as found:
        found.models["tiny"] = {7: tiny(dimension=6), 8: tiny(dimension=6, seed=1)}
        monkeypatch.setenv(SPEC.VARIABLE, found.url)
        yield found


class TestTfServing(ComputingSuite):
    spec = SPEC

    @pytest.fixture
    def root(self, server: TfServing, tmp_path: Path) -> Path:
        return tmp_path


def test_it_says_which_model_computed(server: TfServing, tmp_path: Path) -> None:
    runtime = load_runtime(SPEC, tmp_path)
    assert (runtime.name, runtime.version) == ("tf_serving", "tiny 7")


def test_only_the_declared_version_is_asked_though_there_is_a_newer_one(
    server: TfServing, tmp_path: Path
) -> None:
    load_runtime(SPEC, tmp_path).run(FEEDS)
    assert all("/versions/7" in path for path in server.asked)


def test_rows_are_split_into_requests_and_joined_in_order(server: TfServing, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    feeds = {"input_ids": random.integers(2, 258, (11, 5)), "attention_mask": np.ones((11, 5), np.int64)}
    together = load_runtime(SPEC, tmp_path).run(feeds)
    server.asked.clear()
    split = load_runtime(SPEC.model_copy(update={"max_batch": 2}), tmp_path).run(feeds)
    assert server.asked["/v1/models/tiny/versions/7:predict"] == 6
    np.testing.assert_array_equal(together, split)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 9}, "404 Could not find any versions of model tiny with version 9"),
        ({"model": "other"}, "404 Could not find any versions of model other"),
        ({"signature": "query"}, "has no signature 'query' (its signatures: serving_default)"),
    ],
)
def test_a_model_version_or_signature_that_there_is_not_is_a_model_error(
    server: TfServing, tmp_path: Path, change: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(ModelError) as caught:
        load_runtime(SPEC.model_copy(update=change), tmp_path)
    assert said in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_version_that_is_being_loaded_is_waited_for(server: TfServing, tmp_path: Path) -> None:
    server.states["tiny", 7] = "LOADING"
    with pytest.raises(ServerUnavailable, match="the version is LOADING"):
        load_runtime(SPEC.model_copy(update={"retry_for_s": 0.3}), tmp_path)
    del server.states["tiny", 7]
    assert load_runtime(SPEC, tmp_path).version == "tiny 7"


def test_a_version_that_has_ended_is_an_error_at_once(server: TfServing, tmp_path: Path) -> None:
    server.states["tiny", 7] = "END"
    with pytest.raises(ModelError, match="the version is END"):
        load_runtime(SPEC, tmp_path)


def test_a_model_that_goes_in_the_middle_is_waited_for(server: TfServing, tmp_path: Path) -> None:
    runtime = load_runtime(SPEC.model_copy(update={"retry_for_s": 0.3}), tmp_path)
    server.states["tiny", 7] = "UNLOADING"
    with pytest.raises(ServerUnavailable, match="gave no answer for"):
        runtime.run(FEEDS)


def test_a_model_that_comes_back_as_another_is_refused(server: TfServing, tmp_path: Path) -> None:
    runtime = load_runtime(SPEC, tmp_path)
    wider = tiny(dimension=9)
    gone = iter([True])

    def first_fails(feeds: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, npt.NDArray[Any]]:
        if next(gone, False):
            server.models["tiny"] = {7: wider}
            raise Problem(404, "Servable not found for request: Specific(tiny, 7)")
        return wider.compute(feeds)

    server.models["tiny"][7] = replace(server.models["tiny"][7], compute=first_fails)
    with pytest.raises(ServerUnavailable, match="is not what it was: has other inputs or outputs now"):
        runtime.run(FEEDS)


def test_text_goes_as_text_and_bytes_as_base64_and_one_of_several_outputs_comes_back(
    server: TfServing, tmp_path: Path
) -> None:
    def lengths(feeds: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, npt.NDArray[Any]]:
        sizes = np.array(
            [[len(a), len(b)] for a, b in zip(feeds["title"], feeds["photo_bytes"], strict=True)]
        )
        return {
            "pairs": sizes.astype(np.float32),
            "sums": sizes.sum(axis=1, keepdims=True).astype(np.float32),
        }

    strings, table = ("DT_STRING", (-1,)), ("DT_FLOAT", (-1, 2))
    server.models["strings"] = {
        1: Servable(
            {"title": strings, "photo_bytes": strings},
            {"pairs": table, "sums": ("DT_FLOAT", (-1, 1))},
            lengths,
        )
    }
    spec = SPEC.model_copy(update={"model": "strings", "version": 1, "output": "pairs"})
    runtime = load_runtime(spec, tmp_path)
    assert runtime.inputs["title"].dtype == "string"
    photos = np.array([b"\xff\x00\xfe", b""], dtype=object)
    vectors = runtime.run({"title": np.array(["größe", ""], dtype=object), "photo_bytes": photos})
    np.testing.assert_array_equal(vectors, [[7, 3], [0, 0]])


def test_numbers_that_are_not_finite_come_through_for_the_encoder_to_reject(
    server: TfServing, tmp_path: Path
) -> None:
    strange = {"vectors": np.array([[np.nan, np.inf, -np.inf, 1e300, 0, 1]] * 2)}
    server.models["tiny"][7] = replace(tiny(dimension=6), compute=lambda _: strange)
    vectors = load_runtime(SPEC, tmp_path).run(FEEDS)
    np.testing.assert_array_equal(vectors[0], np.array([np.nan, np.inf, -np.inf, np.inf, 0, 1], np.float32))


def test_a_pipeline_embeds_through_the_server_what_it_embeds_locally(
    server: TfServing, mill: Mill, tmp_path: Path
) -> None:
    server.models["tiny"] = {7: tiny(dimension=16)}
    mill.run(items(40))
    local = mill.live().to_numpy()
    mill.model = served(tiny_text_package(tmp_path / "served"))
    mill.run(items(40))
    remote = mill.live()
    assert [profile.runtime for profile in remote.content.profiles] == ["tf_serving"]
    assert remote.to_numpy()[0].tolist() == local[0].tolist()
    np.testing.assert_allclose(remote.to_numpy()[1], local[1], atol=1e-6)


def served(package: Path) -> Path:
    """Declare the server as the first runtime; the file stays the second."""
    file = package / "model.yaml"
    document = yaml.safe_load(file.read_text())
    document["runtimes"].insert(0, {"kind": "tf_serving", "model": "tiny", "version": 7})
    file.write_text(yaml.safe_dump(document))
    return package


def test_where_nothing_says_where_the_server_is_the_next_runtime_computes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(SPEC.VARIABLE, raising=False)
    folder = tiny_text_package(tmp_path / "package")
    make_goldens(ModelPackage.open(folder))
    package = ModelPackage.open(served(folder))
    with pytest.raises(
        DeviceUnavailable, match=r"nothing says where the server .*set EMBEDMILL_TF_SERVING_URL"
    ):
        Encoder.load(package, using=package.spec.runtimes[0])
    assert Encoder.load(package).profile.runtime == "onnxruntime"


def test_the_environment_goes_before_the_package(server: TfServing, tmp_path: Path) -> None:
    nowhere = SPEC.model_copy(update={"url": "http://127.0.0.1:9"})
    assert load_runtime(nowhere, tmp_path).version == "tiny 7"


def test_the_packages_url_is_asked_where_the_environment_says_nothing(
    server: TfServing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SPEC.VARIABLE)
    assert load_runtime(SPEC.model_copy(update={"url": server.url}), tmp_path).version == "tiny 7"


@pytest.mark.parametrize(
    "url", ["ftp://host", "host:8501", "http://", "http://host:x", "http://h/?q=1", "grpc://h:1"]
)
def test_what_is_no_address_is_refused_by_the_name_of_the_variable(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SPEC.VARIABLE, url)
    with pytest.raises(SpecError, match=SPEC.VARIABLE):
        load_runtime(SPEC, tmp_path)


def test_credentials_are_sent_and_never_told(
    server: TfServing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SPEC.VARIABLE, server.url.replace("http://", "http://me:s3cret@"))
    runtime = load_runtime(SPEC, tmp_path)
    assert server.authorizations == {"Basic bWU6czNjcmV0"}
    server.models.clear()
    with pytest.raises(ServerUnavailable) as caught:
        runtime.run(FEEDS)
    assert "s3cret" not in f"{caught.value!r} {caught.value} {json.dumps(runtime.version)} {runtime!r}"


def test_url_and_limits_are_no_part_of_the_encoder_digest_and_model_and_version_are(tmp_path: Path) -> None:
    def digest(**keys: Any) -> str:
        package = ModelPackage.open(served(tiny_text_package(tmp_path / f"p{len(list(tmp_path.iterdir()))}")))
        spec = package.spec.runtimes[0].model_copy(update=keys)
        return ModelPackage(
            package.root, package.spec.model_copy(update={"runtimes": (spec,)})
        ).encoder_digest()

    plain = digest()
    assert {digest(url="http://x"), digest(max_batch=3), digest(timeout_s=1.0)} == {plain}
    assert plain not in {digest(model="x"), digest(version=8), digest(signature="q"), digest(output="x")}
