"""Specs: what they default to, and that every error says where, what was found and what is allowed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from embedmill.errors import SpecError
from embedmill.spec import (
    ModelSpec,
    PipelineSpec,
    load_fleet_spec,
    load_images_spec,
    load_model_spec,
    load_pipeline_spec,
)

PIPELINE = """\
# A comment
name: similar-items
catalog:
  source: items/*.parquet
  id: sku
  display: [title, price]
model: models/minilm
store: ./mill
"""
MODEL = """\
name: minilm
runtimes:
  - kind: onnx
    file: model.onnx
dimension: 384
normalize: l2
encoders:
  item:
    input_ids: {text: {template: "{title}. {category}", max_length: 256}}
  query_text:
    input_ids: {text: {template: "{query}", max_length: 64}}
"""
IMAGE = """\
name: pictures
runtimes: [{kind: onnx, file: model.onnx}]
dimension: 8
encoders:
  item:
    pixels:
      image:
        field: photo
        resize: {shorter: 64}
        crop: {height: 64, width: 64}
"""


def pipeline(folder: Path, text: str, environment: Mapping[str, str] | None = None) -> PipelineSpec:
    file = folder / "pipeline.yaml"
    file.write_text(text)
    return load_pipeline_spec(file, environment or {})


def model(folder: Path, text: str) -> ModelSpec:
    file = folder / "model.yaml"
    file.write_text(text)
    return load_model_spec(file)


def pipeline_error(folder: Path, text: str, environment: Mapping[str, str] | None = None) -> str:
    with pytest.raises(SpecError) as caught:
        pipeline(folder, text, environment)
    return str(caught.value)


def model_error(folder: Path, text: str) -> str:
    with pytest.raises(SpecError) as caught:
        model(folder, text)
    return str(caught.value)


@pytest.mark.parametrize("load", [load_model_spec, load_pipeline_spec, load_fleet_spec, load_images_spec])
def test_a_pointer_of_git_lfs_is_told_as_such(load: Callable[[Path], object], tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n")
    with pytest.raises(SpecError, match=r"spec.yaml: is a pointer of Git LFS.*git lfs pull"):
        load(file)


def test_a_small_spec_has_the_documented_defaults(tmp_path: Path) -> None:
    spec = pipeline(tmp_path, PIPELINE)
    assert spec.catalog.display == ("title", "price")
    assert (spec.engine, spec.index.kind, spec.work.shard_rows) == ("local", "hnsw", 2048)
    assert (spec.gates.quarantine, spec.gates.churn, spec.compact_above) == (0.01, 0.10, 0.20)


def test_a_spec_cannot_be_changed_after_it_was_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        pipeline(tmp_path, PIPELINE).name = "other"


@pytest.mark.parametrize(
    ("edit", "line", "said"),
    [
        (("store: ./mill", "stroe: ./mill"), 8, "unknown key `stroe`; did you mean `store`? allowed: name,"),
        (("store: ./mill\n", ""), 2, "`store` is missing"),
        (("  id: sku\n", ""), 3, "`catalog.id` is missing"),
        (("store: ./mill", "store: ./mill\nthreads: 4"), 9, "unknown key `threads`; allowed: name, catalog,"),
        (
            ("  id: sku", "  id: sku\n  dispaly: [x]"),
            6,
            "`catalog.dispaly`; did you mean `display`?",
        ),
        (("  id: sku", "  id: 7"), 5, "`catalog.id`: found 7; expected a text"),
        (("[title, price]", "[title, 3]"), 6, "`catalog.display.1`: found 3; expected a text"),
        (("[title, price]", "\n  - title\n  - [x]"), 8, "`catalog.display.1`: found ['x']; expected a text"),
        (
            ("./mill", "./mill\ngates: {churn: 1.5}"),
            9,
            "`gates.churn`: found 1.5; expected a number that is at most 1",
        ),
        (("./mill", "./mill\nindex: {kind: tree}"), 9, "found 'tree'; allowed: flat, hnsw"),
        (
            ("./mill", "./mill\nwork:\n  shard_rows: 0"),
            10,
            "found 0; expected a number that is at least 1",
        ),
        (("./mill", "./mill\nwork: fast"), 9, "`work`: found 'fast'; expected a section with keys"),
        (
            ("similar-items", "Similar Items"),
            2,
            "`name`: found 'Similar Items'; expected a name of small letters",
        ),
        (("similar-items", "../escape"), 2, "`name`: found '../escape'; expected a name of small letters"),
    ],
)
def test_an_error_names_file_line_field_and_what_is_allowed(
    tmp_path: Path, edit: tuple[str, str], line: int, said: str
) -> None:
    assert edit[0] in PIPELINE
    message = pipeline_error(tmp_path, PIPELINE.replace(*edit))
    assert f"{tmp_path}/pipeline.yaml:{line}: " in message
    assert said in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a mapping of keys to values, found NoneType"),
        ("# nothing\n", "found NoneType"),
        ("- a\n", "found list"),
        ("just words", "found str"),
        ("name: [a\nstore: b", ":2: not valid YAML: "),
        ("name: a\n\tmodel: b", ":2: not valid YAML: found character '\\t' that cannot start any token"),
        ("name: a\n--- \nname: b", "not valid YAML: but found another document"),
        ("name: !!python/object/apply:os.system ['true']", ":1: not valid YAML: could not determine"),
    ],
)
def test_what_is_no_mapping_in_yaml_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    message = pipeline_error(tmp_path, text)
    assert str(tmp_path / "pipeline.yaml") in message
    assert said in message


def test_a_file_that_is_absent_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file") as caught:
        load_pipeline_spec(tmp_path / "pipeline.yaml", {})
    assert "embedmill init" in caught.value.hint


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"name: \xe4"])
def test_a_file_that_is_not_utf8_is_a_spec_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "pipeline.yaml").write_bytes(data)
    with pytest.raises(SpecError, match=r"pipeline\.yaml: cannot be read"):
        load_pipeline_spec(tmp_path / "pipeline.yaml", {})


def test_a_folder_in_the_files_place_is_a_spec_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        load_pipeline_spec(tmp_path, {})


def test_a_key_that_is_written_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    message = pipeline_error(tmp_path, PIPELINE + "model: other\n")
    assert "pipeline.yaml:9: `model` is in line 7 already" in message
    message = pipeline_error(tmp_path, PIPELINE + "work: {workers: 1, workers: 2}\n")
    assert "pipeline.yaml:9: `workers` is in line 9 already" in message


def test_anchors_may_be_used_and_even_lead_in_circles(tmp_path: Path) -> None:
    text = PIPELINE.replace("[title, price]", "&shown [title]") + "work: &w {workers: 1}\n"
    assert pipeline(tmp_path, text).catalog.display == ("title",)
    assert "unknown key `more`" in pipeline_error(tmp_path, PIPELINE + "more: &more [*more]\n")


def test_variables_override_keys_and_are_read_as_yaml(tmp_path: Path) -> None:
    spec = pipeline(
        tmp_path,
        PIPELINE,
        {
            "EMBEDMILL_STORE": "/srv/mill",
            "EMBEDMILL_CATALOG__DISPLAY": "[title]",
            "EMBEDMILL_WORK__SHARD_ROWS": "17",
            "EMBEDMILL_GATES__CHURN": "0.5",
            "EMBEDMILL_CACHE": "/tmp/cache",
            "EMBEDMILL_CACHE_BYTES": "1000",
            "UNRELATED": "x",
        },
    )
    assert (spec.store, spec.catalog.display) == ("/srv/mill", ("title",))
    assert (spec.work.shard_rows, spec.gates.churn) == (17, 0.5)
    assert spec.catalog.id == "sku"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("EMBEDMILL_SOTRE", "x", "EMBEDMILL_SOTRE names no key of a pipeline (allowed: EMBEDMILL_NAME,"),
        ("EMBEDMILL_STORE__PATH", "x", "EMBEDMILL_STORE__PATH: `store` is not a section"),
        ("EMBEDMILL_WORK__SHARD_ROWS", "many", "EMBEDMILL_WORK__SHARD_ROWS: `work.shard_rows`: found 'many'"),
        ("EMBEDMILL_WORK__ROWS", "1", "EMBEDMILL_WORK__ROWS: unknown key `work.rows`; allowed: shard_rows"),
        ("EMBEDMILL_CATALOG__DISPLAY", "[a", "EMBEDMILL_CATALOG__DISPLAY='[a' is not valid YAML"),
    ],
)
def test_an_error_in_a_variable_names_the_variable(tmp_path: Path, name: str, value: str, said: str) -> None:
    assert said in pipeline_error(tmp_path, PIPELINE, {name: value})


@pytest.mark.parametrize(
    ("edit", "line", "said"),
    [
        (("  item:", "  thing:"), 1, "encoders: `item` is missing; it embeds the catalog"),
        (
            ("dimension: 384", "dimension: 0"),
            5,
            "`dimension`: found 0; expected a number that is at least 1",
        ),
        (("kind: onnx", "kind: pickle"), 3, "`runtimes.0.kind`: found 'pickle'; allowed: onnx, openvino, "),
        (("kind: onnx", "knid: onnx"), 3, "`runtimes.0.kind` is missing"),
        (("file: model", "flie: model"), 4, "unknown key `runtimes.0.flie`; did you mean `file`? allowed: "),
        (("{title}. {category}", "no fields"), 9, "template 'no fields' names no field"),
        (("{title}. {category}", "{title!r}"), 9, "write plain {field} names, without formats or indexing"),
        (("{title}. {category}", "{title:>10}"), 9, "write plain {field} names"),
        (("{title}. {category}", "{title[0]}"), 9, "write plain {field} names"),
        (("{title}. {category}", "{title.__class__}"), 9, "write plain {field} names"),
        (("{title}. {category}", "{}"), 9, "write plain {field} names"),
        (("{title}. {category}", "{title"), 9, "template '{title': expected '}' before end of string"),
        (("{query}", "{query}}"), 11, "template '{query}}': Single '}' encountered"),
        (("max_length: 64", "max_length: 64, lenght: 3"), 11, "unknown key"),
        (("input_ids: {text:", "input_ids: {image: {field: x, resize: {shorter: 8}}, text:"), 9, "image"),
        (("    file: model.onnx", "    file: model.onnx\n    encoders: [item]"), 1, "no runtime computes"),
    ],
)
def test_a_wrong_model_yaml_names_the_line_and_the_reason(
    tmp_path: Path, edit: tuple[str, str], line: int, said: str
) -> None:
    assert edit[0] in MODEL
    message = model_error(tmp_path, MODEL.replace(*edit, 1))
    assert f"model.yaml:{line}: " in message
    assert said in message


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("        crop: {height: 64, width: 64}\n", ""), "leaves the size open; add `crop`"),
        (
            ("{shorter: 64}", "{shorter: 64, height: 3}"),
            "either `shorter`, or both `height` and `width`",
        ),
        (("{shorter: 64}", "{}"), "either `shorter`, or both `height` and `width`"),
        (("field: photo", "field: photo\n        std: [1, 0, 1]"), "`std` may not be zero"),
    ],
)
def test_an_image_input_needs_a_size_that_is_fixed(tmp_path: Path, edit: tuple[str, str], said: str) -> None:
    assert said in model_error(tmp_path, IMAGE.replace(*edit))


def test_an_encoder_names_its_fields_once_in_order_of_use(tmp_path: Path) -> None:
    text = MODEL.replace("{title}. {category}", "{b} {a} {{not this}} {b}")
    assert model(tmp_path, text).encoders["item"].fields == ("b", "a")
    assert model(tmp_path, IMAGE).encoders["item"].image_fields == ("photo",)


SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    return found


@pytest.mark.parametrize(("name", "kind"), [("pipeline", PipelineSpec), ("model", ModelSpec)])
def test_the_published_json_schema_is_valid_and_up_to_date(
    name: str, kind: type[PipelineSpec] | type[ModelSpec]
) -> None:
    published = schema(name)
    jsonschema.Draft202012Validator.check_schema(published)
    assert {key: published[key] for key in published if key != "$schema"} == kind.model_json_schema()


@pytest.mark.parametrize(("name", "text"), [("pipeline", PIPELINE), ("model", MODEL), ("model", IMAGE)])
def test_the_json_schema_accepts_what_the_loader_accepts(tmp_path: Path, name: str, text: str) -> None:
    (pipeline if name == "pipeline" else model)(tmp_path, text)
    jsonschema.validate(yaml.safe_load(text), schema(name))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pipeline", PIPELINE.replace("store:", "stroe:")),
        ("pipeline", PIPELINE.replace("id: sku", "id: 7")),
        ("pipeline", PIPELINE + "gates: {churn: 2}\n"),
        ("model", MODEL.replace("dimension: 384", "dimension: 0")),
        ("model", MODEL.replace("kind: onnx", "kind: pickle")),
    ],
)
def test_the_json_schema_refuses_what_the_loader_refuses(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(SpecError):
        (pipeline if name == "pipeline" else model)(tmp_path, text)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), schema(name))


def test_a_tilde_is_the_readers_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    spec = pipeline(tmp_path, PIPELINE.replace("./mill", "~/mill"))
    assert spec.store == "/home/ada/mill"


@pytest.mark.parametrize(
    ("load", "helps"),
    [
        (load_pipeline_spec, "embedmill init"),
        (load_fleet_spec, "servers: {gpu-01: {}}"),
        (load_images_spec, "embedmill images build"),
    ],
)
def test_what_helps_where_there_is_no_file_is_of_its_kind(
    load: Callable[[Path], object], helps: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match="no such file") as refused:
        load(tmp_path / "nope.yaml")
    assert helps in refused.value.hint
