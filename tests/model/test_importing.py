"""`import_declared` makes a package of an ONNX file and its declaration, whole or not at all."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from tests.every_input import every_input_package
from tests.models import POINTER, edit, end_with, tiny_image_package, tiny_text_package
from tests.one_input import files_package, numbers_package

from embedmill.errors import ModelError, SpecError
from embedmill.model import Encoder, ModelPackage
from embedmill.model.check import check_package
from embedmill.model.goldens import goldens_file, read_goldens
from embedmill.model.importing import import_declared
from embedmill.model.samples import ABSENT, NUMBERS, TEXTS


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny_text_package(tmp_path / "source")


def stamp(file: Path, opset: int) -> None:
    """Let an ONNX file say that it is of another opset."""
    model = onnx.load(file)
    model.opset_import[0].version = opset
    onnx.save(model, file)


def imported(source: Path, file: str = "model.onnx") -> ModelPackage:
    return import_declared(source / file, source / "model.yaml", source.parent / "package")


def test_an_error_names_the_package_to_be_and_not_the_folder_that_it_is_made_in(source: Path) -> None:
    (source / "model.onnx").write_bytes(b"\x08\x08")
    with pytest.raises(ModelError) as caught:
        imported(source)
    assert str(source.parent / "package" / "model.onnx") in str(caught.value)
    assert ".package." not in str(caught.value)


def test_the_package_has_the_model_what_it_names_and_goldens(source: Path) -> None:
    (source / "unrelated.txt").write_text("stays")
    package = imported(source)
    assert package.files() == [
        "goldens/item.jsonl",
        "goldens/query_text.jsonl",
        "model.onnx",
        "model.yaml",
        "tokenizer.json",
    ]
    assert package.encoder_digest() == ModelPackage.open(source).encoder_digest()


def test_the_file_may_have_another_name_than_the_declaration_gives_it(source: Path) -> None:
    (source / "model.onnx").rename(source / "export-17.onnx")
    edit(source, lambda d: d["runtimes"][0].update(file="onnx/net.onnx"))
    assert "onnx/net.onnx" in imported(source, "export-17.onnx").files()


def test_tensors_in_another_file_are_taken_along(source: Path) -> None:
    model = onnx.load(source / "model.onnx")
    onnx.save(model, source / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    package = imported(source)
    assert "w.bin" in package.files()
    assert Encoder.load(package, "query_text").encode_texts(["red"]).shape == (1, 16)


def test_the_other_tower_of_two_lies_beside_the_declaration(source: Path) -> None:
    shutil.copy(source / "model.onnx", source / "query.onnx")
    towers = [
        {"kind": "onnx", "file": "model.onnx", "encoders": ["item"]},
        {"kind": "onnx", "file": "query.onnx", "encoders": ["query_text"]},
    ]
    edit(source, lambda d: d.update(runtimes=towers))
    assert {"model.onnx", "query.onnx"} <= set(imported(source).files())


def two_towers(source: Path, item: str, query: str) -> Path:
    """The declaration with two models, the second of other weights."""
    other = tiny_text_package(source.parent / "other", seed=1)
    for goal, made in ((item, source), (query, other)):
        (source / goal).parent.mkdir(exist_ok=True)
        (source / goal).write_bytes((made / "model.onnx").read_bytes())
    shutil.rmtree(other)
    towers = [
        {"kind": "onnx", "file": item, "encoders": ["item"]},
        {"kind": "onnx", "file": query, "encoders": ["query_text"]},
    ]
    edit(source, lambda d: d.update(runtimes=towers))
    return source


@pytest.mark.parametrize("file", ["item/model.onnx", "query/model.onnx"])
def test_towers_whose_files_have_one_name_are_told_apart_by_their_paths(source: Path, file: str) -> None:
    two_towers(source, "item/model.onnx", "query/model.onnx")
    package = imported(source, file)
    for each in ("item/model.onnx", "query/model.onnx"):
        assert (package.root / each).read_bytes() == (source / each).read_bytes()


@pytest.mark.parametrize(
    ("item", "query", "said"),
    [("item.onnx", "query.onnx", "none"), ("item/model.onnx", "query/model.onnx", "several")],
)
def test_a_file_that_is_not_one_of_two_models_is_refused_and_not_left_out(
    source: Path, item: str, query: str, said: str
) -> None:
    two_towers(source, item, query)
    with pytest.raises(ModelError, match=f"stands for {said} of the models of .*: {item}, {query}"):
        imported(source)


@pytest.mark.parametrize("file", ["model.onnx", "query/model.onnx"])
def test_a_file_that_lies_where_one_model_is_declared_stands_for_that_one(tmp_path: Path, file: str) -> None:
    """The folder has the name of one within it, so that the path of the one ends as that of the other."""
    source = two_towers(tiny_text_package(tmp_path / "query"), "model.onnx", "query/model.onnx")
    package = imported(source, file)
    for each in ("model.onnx", "query/model.onnx"):
        assert (package.root / each).read_bytes() == (source / each).read_bytes()


@pytest.mark.parametrize("file", ["query/model.onnx", "retrained/model.onnx"])
def test_a_file_of_elsewhere_that_may_stand_for_either_of_two_models_is_refused(
    source: Path, tmp_path: Path, file: str
) -> None:
    two_towers(source, "model.onnx", "query/model.onnx")
    elsewhere = tmp_path / "elsewhere" / file
    elsewhere.parent.mkdir(parents=True)
    shutil.copy(source / "query" / "model.onnx", elsewhere)
    with pytest.raises(ModelError, match="stands for several of the models of"):
        import_declared(elsewhere, source / "model.yaml", tmp_path / "package")


def test_a_file_of_elsewhere_stands_for_the_model_of_its_path(source: Path, tmp_path: Path) -> None:
    two_towers(source, "item/model.onnx", "query/model.onnx")
    elsewhere = tmp_path / "elsewhere" / "query" / "model.onnx"
    elsewhere.parent.mkdir(parents=True)
    shutil.copy(source / "item" / "model.onnx", elsewhere)
    package = import_declared(elsewhere, source / "model.yaml", tmp_path / "package")
    assert (package.root / "query" / "model.onnx").read_bytes() == elsewhere.read_bytes()


def test_of_several_models_a_keras_file_stands_for_the_folder_that_it_becomes(source: Path) -> None:
    """Neither is an archive of Keras: what is said of it is said once it was found to be a tower."""
    towers = [
        {"kind": "tensorflow", "folder": f"towers/{side}", "encoders": [encoder]}
        for side, encoder in (("item", "item"), ("query", "query_text"))
    ]
    edit(source, lambda d: d.update(runtimes=towers))
    for name in ("towers/query.keras", "query.keras"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("junk")
        with pytest.raises(ModelError, match=rf"{name}: is no \.keras file"):
            imported(source, name)
    (source / "towers" / "v2.keras").touch()
    with pytest.raises(ModelError, match=r"stands for none .*by that of its folder with \.keras after it"):
        imported(source, "towers/v2.keras")


def test_image_models_have_goldens_of_pictures_that_are_drawn(tmp_path: Path) -> None:
    package = imported(tiny_image_package(tmp_path / "source"))
    assert package.files() == ["goldens/item.jsonl", "goldens/query_image.jsonl", "model.onnx", "model.yaml"]
    rows, vectors = read_goldens(goldens_file(package, "item"))
    opened = [Image.open(io.BytesIO(data)) for data in rows.column("image").to_pylist()]
    assert {picture.format for picture in opened} == {"PNG"}
    assert {picture.mode for picture in opened} == {"RGB", "L", "RGBA", "P", "LA", "1"}
    assert (1, 1) in {picture.size for picture in opened}
    assert any(picture.getexif().get(0x0112) == 6 for picture in opened)
    assert (np.linalg.norm(vectors, axis=1) > 0.9).all()


def test_models_of_every_kind_have_goldens_of_known_unknown_and_missing_values(tmp_path: Path) -> None:
    package = imported(every_input_package(tmp_path / "source"))
    assert {"goldens/item.jsonl", "goldens/query_text.jsonl", "tags.txt"} <= set(package.files())
    rows, _ = read_goldens(goldens_file(package, "item"))
    assert len(rows) == len(TEXTS)
    columns = {name: rows.column(name).to_pylist() for name in rows.schema.names}
    assert {None, ABSENT, "lamps", "7"} <= set(columns["category"])
    assert {None, True, False} <= set(columns["stock"])
    assert None in columns["price"]
    assert [] in columns["tags"]
    assert any(ABSENT in tags for tags in columns["tags"] if tags)
    assert any("," in materials for materials in columns["materials"] if materials)
    assert {type(picture) for picture in columns["back"]} == {bytes, type(None)}
    report = check_package(package)
    assert [encoder.goldens for encoder in report.encoders] == [12, 12]


def test_values_that_are_in_no_golden_could_not_have_been(tmp_path: Path) -> None:
    """What is rejected by declaration is not drawn; what the model's type cannot hold is left out."""
    strict = {"count": {"number": {"field": "count"}}}
    package = imported(numbers_package(tmp_path / "source", strict, TensorProto.INT64))
    rows, _ = read_goldens(goldens_file(package, "item"))
    assert rows.column("count").to_pylist() == [n for n in NUMBERS if n == int(n)]


def test_made_up_rows_whose_vectors_are_not_finite_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = numbers_package(tmp_path / "source", {"price": {"number": {"field": "price"}}})
    end_with(source / "model.onnx", [helper.make_node("Log", ["own"], ["vectors"])])
    rows, vectors = read_goldens(goldens_file(imported(source), "item"))
    assert rows.column("price").to_pylist() == [n for n in NUMBERS if n > 0]
    assert np.isfinite(vectors).all()
    said = "encoder 'item': of {'price': 0.0} it makes a vector that is not finite: NaN or infinity in 1 of 1"
    assert said in caplog.text
    assert "2 of 12 made-up rows are so" in caplog.text


def test_a_model_that_makes_no_finite_vector_is_not_imported(tmp_path: Path) -> None:
    source = numbers_package(tmp_path / "source", {"price": {"number": {"field": "price"}}})
    nothing = [
        helper.make_node("Sub", ["own", "own"], ["zero"]),
        helper.make_node("Div", ["zero", "zero"], ["vectors"]),
    ]
    end_with(source / "model.onnx", nothing)
    with pytest.raises(
        ModelError, match=r"of {'price': 0\.0} it makes a vector that is not finite: .* 1 of 1"
    ):
        imported(source)


def test_a_model_of_files_that_nobody_can_guess_has_no_goldens(tmp_path: Path) -> None:
    package = imported(files_package(tmp_path / "source", size=7))
    assert package.files() == ["model.onnx", "model.yaml"]
    (report,) = check_package(package).encoders
    assert report.goldens == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: (s / "model.onnx").unlink(), "no such file"),
        (lambda s: (s / "model.onnx").write_bytes(b"junk"), "no ONNX file"),
        (lambda s: (s / "model.onnx").write_bytes(b"\x80\x04junk"), "is a pickle"),
        (lambda s: (s / "model.onnx").write_text(POINTER), "source/model.onnx: is a pointer of Git LFS"),
        (
            lambda s: (s / "tokenizer.json").write_text(POINTER),
            "source/tokenizer.json: is a pointer of Git LFS",
        ),
        (lambda s: stamp(s / "model.onnx", 99), "cannot load it: ONNX Runtime only *guarantees* support"),
        (lambda s: (s / "tokenizer.json").unlink(), "'tokenizer.json' is no file"),
        (lambda s: edit(s, lambda d: d.update(dimension=3)), "declares dimension 3"),
        (lambda s: edit(s, lambda d: d["runtimes"][0].update(file="../x.onnx")), "leads out of the folder"),
        (
            lambda s: edit(
                s, lambda d: d["encoders"]["item"]["input_ids"]["text"].update(tokenizer="../t.json")
            ),
            "leads out of the folder",
        ),
    ],
)
def test_what_cannot_be_imported_is_one_line_and_leaves_nothing(
    source: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(source)
    with pytest.raises(ModelError) as caught:
        imported(source)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in source.parent.iterdir()] == ["source"]


def test_an_output_that_has_no_numbers_is_not_said_to_do_as_well(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    end_with(
        source / "model.onnx",
        [
            helper.make_node("Neg", ["own"], ["vectors"]),
            helper.make_node("Cast", ["own"], ["flags"], to=TensorProto.BOOL),
        ],
    )
    model = onnx.load(source / "model.onnx")
    model.graph.output.append(helper.make_tensor_value_info("flags", TensorProto.BOOL, ["rows", None]))
    onnx.save(model, source / "model.onnx")
    imported(source)
    assert [record.message for record in caplog.records if "values a row" in record.message] == []


def test_which_of_two_outputs_of_one_width_is_taken_is_said_once(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    end_with(source / "model.onnx", [helper.make_node("Neg", ["own"], ["vectors"])])
    model = onnx.load(source / "model.onnx")
    model.graph.output.append(model.graph.output[0])
    model.graph.output[1].name = "own"
    onnx.save(model, source / "model.onnx")
    package = imported(source)
    said = f"2 outputs have {package.spec.dimension} values a row: vectors, own; 'vectors' is taken"
    assert [said in record.message for record in caplog.records] == [True]
    caplog.clear()
    check_package(package)
    assert [said in record.message for record in caplog.records] == [True]
    caplog.clear()
    edit(source, lambda d: d["runtimes"][0].update(output="vectors"))
    import_declared(source / "model.onnx", source / "model.yaml", source.parent / "named")
    assert not caplog.records


def test_a_folder_that_holds_no_model_is_named_as_it_was_given(source: Path) -> None:
    with pytest.raises(ModelError, match=r"source: is a folder, and this model is one file, model.onnx"):
        imported(source, ".")
    edit(source, lambda d: d.update(runtimes=[{"kind": "tensorflow", "folder": "saved"}]))
    (source / "export" / "1").mkdir(parents=True)
    with pytest.raises(ModelError, match=r"source/export: is no SavedModel: it has no file saved_model.pb"):
        imported(source, "export")
    (source / "export" / "1" / "saved_model.pb").touch()
    with pytest.raises(ModelError, match=r"there is one in .*source/export/1"):
        imported(source, "export")


def test_a_wrong_declaration_is_a_spec_error(source: Path) -> None:
    edit(source, lambda d: d.pop("dimension"))
    with pytest.raises(SpecError, match="`dimension` is missing"):
        imported(source)


def test_an_existing_target_is_left_alone(source: Path) -> None:
    first = imported(source).package_digest()
    with pytest.raises(ModelError, match="exists already"):
        imported(source)
    assert ModelPackage.open(source.parent / "package").package_digest() == first
