"""A server that is the release passes; one that is broken in any of many ways fails, and is told how."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
import tokenizers
import yaml
from onnx import numpy_helper
from tests.decoding.pictures import encoded, noise
from tests.every_input import SCHEMA, every_input_package, every_item
from tests.models import tiny_image_package, tiny_text_package
from tests.support.mill import Mill, items
from tests.support.oip import Array, Faults, oip_server

from embedmill import Release
from embedmill.deploy.triton import deploy_triton
from embedmill.errors import ServerUnavailable
from embedmill.gates.alike import Tolerance, search_alike
from embedmill.gates.parity import verify
from embedmill.model import Encoder, ModelPackage
from embedmill.release.goldens import read_goldens
from embedmill.runtimes.remote.fields.asking import AskedServer
from embedmill.spec.deployed import DeployedEncoder
from embedmill.spec.parity import ParityReport

WORDS = ["Red", "green", "BLUE", "größe", "🍎", "a\tb", "x" * 70, "teapot"]
IMAGES = pa.schema([("sku", pa.string()), ("image", pa.binary())])


def texts() -> list[dict[str, Any]]:
    """Items with capitals, characters beyond ASCII, control characters, and more than the model reads."""
    rows = items(120)
    return [row | {"title": f"{WORDS[n % len(WORDS)]} {row['title']}"} for n, row in enumerate(rows)]


def pictures() -> list[dict[str, Any]]:
    return [{"sku": f"p{n}", "image": encoded(noise(40 + n, 30, seed=n))} for n in range(30)]


@dataclass(frozen=True)
class Published:
    """A release, and the model repository that it is laid out in."""

    release: Release
    repository: Path

    def asked(
        self, faults: Faults | None = None, repository: Path | None = None, **options: Any
    ) -> ParityReport:
        """What `verify` finds of a server of that repository."""
        with (
            oip_server(repository or self.repository, faults) as server,
            AskedServer(server.url, "oip", retry_for_s=0) as asked,
        ):
            return verify(self.release, 1, asked, **options)

    def rebuilt(self, folder: Path, change: Callable[[Path], None]) -> Path:
        """The repository with other model packages, which prove themselves by goldens of their own."""
        shutil.copytree(self.repository, folder)
        for file in folder.glob("*/*/deployed.json"):
            package = file.parent / "package"
            change(package)
            deployed = DeployedEncoder.from_bytes(file.read_bytes(), str(file))
            digest = {"package_digest": ModelPackage.open(package).package_digest()}
            file.write_bytes(deployed.model_copy(update=digest).to_bytes())
            _renew_goldens(file.parent / "goldens.arrow", package, deployed.encoder)
        return folder


def _renew_goldens(file: Path, package: Path, name: str) -> None:
    table = read_goldens(file).combine_chunks()
    with Encoder.load(ModelPackage.open(package), name) as encoder:
        vectors = encoder.encode(table.select(list(encoder.fields)).to_batches()[0]).vectors_ND
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    renewed = table.drop_columns(["_vector"]).append_column("_vector", column)
    new = file.with_suffix(".new")  # the old one is mapped
    with pa.ipc.new_file(str(new), renewed.schema) as writer:
        writer.write_table(renewed)
    new.replace(file)


def published(root: Path, model: Path, rows: list[dict[str, Any]], **mill: Any) -> Published:
    made = Mill(root, model, **mill)
    made.run(rows)
    release = made.live()
    deploy_triton(release, root / "repository")
    return Published(release, root / "repository")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("text")
    model = tiny_text_package(root / "tiny")
    declare(model, lambda spec: query(spec).update(template="query: {query}"))
    return published(root, model, texts())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("images")
    settings = {"catalog": {"source": "items.parquet", "id": "sku"}}
    return published(root, tiny_image_package(root / "tiny"), pictures(), schema=IMAGES, settings=settings)


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Of a model that reads every kind of input, in rows some of which lack each."""
    root = tmp_path_factory.mktemp("every")
    settings = {"catalog": {"source": "items.parquet", "id": "sku"}}
    return published(
        root, every_input_package(root / "tiny"), every_item(60), schema=SCHEMA, settings=settings
    )


def declare(package: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = package / "model.yaml"
    document = yaml.safe_load(file.read_text())
    change(document)
    file.write_text(yaml.safe_dump(document))


def query(document: dict[str, Any]) -> Any:
    return document["encoders"]["query_text"]["input_ids"]["text"]


def reweigh(package: Path, change: Callable[[Array], Array]) -> None:
    model = onnx.load(package / "model.onnx")
    for tensor in model.graph.initializer:
        if tensor.name == "table":
            tensor.CopyFrom(
                numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), tensor.name)
            )
    onnx.save(model, package / "model.onnx")


def failed(report: ParityReport) -> dict[tuple[str, str], str]:
    """(encoder, check) → what was found."""
    return {(each.encoder, check.check): check.message for each in report.encoders for check in each.failed}


@pytest.mark.parametrize("kind", ["text", "images", "every"])
def test_a_server_that_is_the_release_passes(kind: str, request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(kind).asked()
    assert failed(report) == {}
    assert report.passed
    assert len(report.encoders) == 2
    for encoder in report.encoders:
        cosines = [check.cosines for check in encoder.checks if check.cosines is not None]
        assert len(cosines) == 4
        assert all(each.lowest > 0.99999 for each in cosines)


ANONYMOUS: dict[str, Any] = {"parameters": {}}
"""A server that does not say what it serves: only its vectors can tell."""
VECTORS = {"alone", "at once", "in batches", "in reverse"}


def break_weight(package: Path) -> None:
    def broken(table: Array) -> Array:
        table[60:90] *= 1.5
        return table

    reweigh(package, broken)


def lowercase(package: Path) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(package / "tokenizer.json"))
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.save(str(package / "tokenizer.json"))


def truncate(package: Path) -> None:
    declare(package, lambda spec: spec["encoders"]["item"]["input_ids"]["text"].update(max_length=32))


def lose_the_prefix(package: Path) -> None:
    declare(package, lambda spec: query(spec).update(template="{query}"))


def forget_to_normalise(package: Path) -> None:
    declare(package, lambda spec: spec.update(normalize="none"))


def round_to_8_bits(package: Path) -> None:
    """As float8 e4m3 does: three bits of mantissa."""

    def rounded(table: Array) -> Array:
        mantissa, exponent = np.frexp(table)
        return np.ldexp(np.round(mantissa * 16) / 16, exponent).astype(np.float32)

    reweigh(package, rounded)


def round_to_16_bits(package: Path) -> None:
    reweigh(package, lambda table: table.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(
    ("change", "encoders", "says"),
    [
        (break_weight, {"item", "query_text"}, "have other vectors: the lowest cosine is"),
        (lowercase, {"item", "query_text"}, "have other vectors"),
        (truncate, {"item"}, "have other vectors"),
        (lose_the_prefix, {"query_text"}, "have other vectors"),
        (forget_to_normalise, {"item", "query_text"}, "have another length"),
        (round_to_8_bits, {"item", "query_text"}, "below 0.9999"),
    ],
)
def test_another_model_of_texts_is_noticed_by_its_vectors(
    text: Published, tmp_path: Path, change: Callable[[Path], None], encoders: set[str], says: str
) -> None:
    repository = text.rebuilt(tmp_path / "repository", change)
    report = text.asked(Faults(config=ANONYMOUS), repository)
    assert not report.passed
    found = failed(report)
    assert {encoder for encoder, check in found if check in VECTORS} == encoders
    for encoder in encoders:
        assert says in found[encoder, "in batches"]


def test_float16_is_within_the_tolerance_of_float32_and_beyond_a_stricter_one(
    text: Published, tmp_path: Path
) -> None:
    repository = text.rebuilt(tmp_path / "repository", round_to_16_bits)
    assert text.asked(Faults(config=ANONYMOUS), repository).passed
    strict = text.asked(Faults(config=ANONYMOUS), repository, tolerance=Tolerance(1 - 1e-9, 1 - 1e-9))
    assert ("item", "in batches") in failed(strict)


@pytest.mark.parametrize("resize", [{"filter": "nearest"}, {"shorter": 24}])
def test_images_that_are_scaled_otherwise_are_noticed(
    images: Published, tmp_path: Path, resize: dict[str, Any]
) -> None:
    def change(package: Path) -> None:
        declare(package, lambda spec: spec["encoders"]["item"]["pixels"]["image"]["resize"].update(resize))

    found = failed(images.asked(Faults(config=ANONYMOUS), images.rebuilt(tmp_path / "repository", change)))
    assert "have other vectors" in found["item", "alone"]
    assert not {check for encoder, check in found if encoder == "query_image"}


def test_a_stale_release_with_the_same_number_is_named(text: Published, tmp_path: Path) -> None:
    stale = {name: {"string_value": "20260101T000000000-0000"} for name in ("embedmill-release",)}
    found = failed(text.asked(Faults(config={"parameters": stale})))
    assert found["item", "release"] == (
        f"the server says embedmill-release 20260101T000000000-0000, and the release has {text.release.name}"
    )


def test_another_version_is_not_the_release(text: Published, tmp_path: Path) -> None:
    deploy_triton(text.release, tmp_path, number=2)
    found = failed(text.asked(repository=tmp_path))
    assert "404" in found["item", "answers"]


def test_swapped_encoders_are_noticed(text: Published) -> None:
    swapped = {"test-item": "test-query_text", "test-query_text": "test-item"}
    found = failed(text.asked(Faults(model=lambda name: swapped[name])))
    assert "the encoder does not read 'title'" in found["item", "answers"]


def test_swapped_encoders_that_read_the_same_are_noticed_by_their_vectors(
    images: Published, tmp_path: Path
) -> None:
    def change(package: Path) -> None:
        declare(
            package, lambda spec: spec["encoders"]["query_image"]["pixels"]["image"].update(std=[1, 2, 3])
        )

    repository = images.rebuilt(tmp_path / "repository", change)
    swapped = {"test-item": "test-query_image", "test-query_image": "test-item"}
    found = failed(images.asked(Faults(config=ANONYMOUS, model=lambda name: swapped[name]), repository))
    assert ("item", "alone") in found
    assert ("query_image", "alone") not in found  # it got the vectors of an item, which are its own there


def test_rows_that_are_permuted_in_a_batch_are_right_alone_and_named(text: Published) -> None:
    found = failed(text.asked(Faults(answer=lambda _, vectors: np.roll(vectors, 1, axis=0))))
    assert ("item", "alone") not in found
    assert "of them have those of other rows: row" in found["item", "in batches"]
    assert ("item", "in reverse") in found


def test_a_batch_that_leaks_is_right_alone_and_wrong_in_batches(text: Published) -> None:
    def leaking(_: str, vectors: Array) -> Array:
        return vectors if len(vectors) == 1 else 0.9 * vectors + 0.1 * vectors.mean(axis=0)

    found = failed(text.asked(Faults(answer=leaking)))
    assert {check for encoder, check in found if encoder == "item"} >= {"in batches", "in reverse"}
    assert ("item", "alone") not in found


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            lambda _, vectors: vectors[:, :8],
            "answered float32[1, 8] for 1 row, and vectors are float32[1, 16]",
        ),
        (lambda _, vectors: vectors[:1], "answered float32[1, 16] for 32 rows"),
        (lambda _, vectors: vectors * np.nan, "of them are not finite"),
        (lambda _, vectors: vectors[0], "answered float32[16] for 1 row"),
    ],
)
def test_vectors_that_are_cut_lost_or_not_finite_are_noticed(
    text: Published, answer: Callable[[str, Array], Array], says: str
) -> None:
    report = text.asked(Faults(answer=answer))
    assert not report.passed
    assert any(says in message for message in failed(report).values()), failed(report)


def test_an_output_of_another_name_is_noticed(text: Published) -> None:
    found = failed(text.asked(Faults(output="vectors")))
    assert "no output 'embedding': there is vectors: float32[?, 16]" in found["item", "metadata"]


def test_an_output_of_another_type_is_noticed(text: Published) -> None:
    found = failed(text.asked(Faults(datatype="FP16")))
    assert "an output embedding: float16[?, 16], not embedding: float32[?, 16]" in found["item", "metadata"]
    assert "FP16" in found["item", "answers"]


def test_a_model_that_reads_other_fields_is_noticed(text: Published) -> None:
    inputs = [
        {"name": "title", "datatype": "FP64", "shape": [-1]},
        {"name": "x", "datatype": "BYTES", "shape": [-1]},
    ]
    message = failed(text.asked(Faults(metadata={"inputs": inputs})))["item", "metadata"]
    assert "no input 'category'" in message
    assert "an input 'x', which the encoder does not read" in message
    assert "input 'title' of float64, not string" in message


def test_a_server_that_answers_for_a_version_that_it_does_not_have_is_noticed(text: Published) -> None:
    found = failed(text.asked(Faults(any_version=True)))
    assert found["item", "other version"] == "was answered as if it were right"


def test_an_error_that_is_none_of_the_protocol_is_noticed(text: Published) -> None:
    found = failed(text.asked(Faults(refusal="<html>not found</html>")))
    assert "no error with a 4xx status as the protocol has them" in found["item", "unknown model"]


def test_rows_beyond_the_limit_may_not_be_dropped(text: Published) -> None:
    with oip_server(text.repository) as server, AskedServer(server.url, "oip", retry_for_s=0) as asked:
        server.most_rows = 64
        server.faults.config = {"max_batch_size": 32}
        server.faults.answer = lambda _, vectors: vectors[:32]
        found = failed(verify(text.release, 1, asked))
    assert "answered float32[32, 16] for 33 rows" in found["item", "limit of 32 rows"]


def test_a_server_that_is_not_there_is_an_error_that_may_pass(text: Published) -> None:
    with AskedServer("http://127.0.0.1:9", "oip", retry_for_s=0) as asked, pytest.raises(ServerUnavailable):
        verify(text.release, 1, asked)


def test_hits_that_tie_are_no_difference(text: Published) -> None:
    stored = text.release.to_numpy()[1][:8]
    assert search_alike(text.release, stored + np.float32(1e-7), stored).passed
    assert not search_alike(text.release, np.roll(stored, 1, axis=0), stored).passed
