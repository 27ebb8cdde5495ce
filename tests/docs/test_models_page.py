"""docs/models.md says of every key what the code does, and of every change which digest it moves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from onnx import numpy_helper
from tests.docs.pages import table, text_of
from tests.docs.spec_tables import declared, differences, documented
from tests.every_input import every_input_package
from tests.models import tiny_image_package, tiny_text_package
from tests.support.mill import Mill, items

from embedmill.model import ModelPackage
from embedmill.model.goldens import LOWEST_COSINE
from embedmill.model.samples import TEXTS
from embedmill.spec import InputSpec, ModelSpec

PAGE = "models.md"
Edit = Callable[[Path], object]


def test_the_table_has_every_key_with_its_type_and_default() -> None:
    code = declared(ModelSpec) | declared(InputSpec)
    assert differences(documented(table(PAGE, "model.yaml")), code) == {}


def test_the_goldens_are_as_many_and_as_near_as_the_page_says() -> None:
    assert len(TEXTS) == 12
    words = " ".join(text_of(PAGE).split())
    assert "embeds twelve rows" in words
    assert f"below a cosine of {LOWEST_COSINE}." in words


def spec(change: Callable[[dict[str, Any]], object]) -> Edit:
    """Change the declaration."""

    def edit(package: Path) -> None:
        document = yaml.safe_load((package / "model.yaml").read_text())
        change(document)
        (package / "model.yaml").write_text(yaml.safe_dump(document))

    return edit


def item(**keys: Any) -> Edit:
    return spec(lambda d: next(iter(d["encoders"]["item"]["input_ids"].values())).update(keys))


def image(**keys: Any) -> Edit:
    return spec(lambda d: d["encoders"]["item"]["pixels"]["image"].update(keys))


def rename_tokenizer(package: Path) -> None:
    (package / "tokenizer.json").rename(package / "words.json")
    item(tokenizer="words.json")(package)
    spec(lambda d: d["encoders"]["query_text"]["input_ids"]["text"].update(tokenizer="words.json"))(package)


def other_tokenizer(package: Path) -> None:
    file = package / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"normalizer": {"type": "Lowercase"}}))


def other_vocabulary(package: Path) -> None:
    file = package / "categories.txt"
    file.write_text(file.read_text() + "stools\n")


def other_weights(package: Path) -> None:
    model = onnx.load(package / "model.onnx")
    first = model.graph.initializer[0]
    first.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(first) * 2, first.name))
    onnx.save(model, package / "model.onnx")


def other_tensors(package: Path) -> None:
    """The graph stays; the file that it keeps its tensors in changes."""
    data = bytearray((package / "w.bin").read_bytes())
    data[3] ^= 1
    (package / "w.bin").write_bytes(data)


def rename_vocabulary(package: Path) -> None:
    (package / "tags.txt").rename(package / "words.txt")
    every("tags", "categories", vocabulary="words.txt")(package)


def every(name: str, kind: str, **keys: Any) -> Edit:
    return spec(lambda d: d["encoders"]["item"][name][kind].update(keys))


def query(document: dict[str, Any]) -> None:
    document["encoders"]["query_text"]["input_ids"]["text"]["template"] = "query: {query}"


CHANGES: dict[str, list[Edit]] = {
    "a comment, `name`, `license`, `source`": [
        lambda package: (package / "model.yaml").open("a").write("# a comment\n"),
        spec(lambda d: d.update(name="other", license="MIT", source="here")),
    ],
    "another file of the folder, such as goldens": [lambda p: (p / "README.md").write_text("words")],
    "a tokenizer's or vocabulary's file name": [rename_tokenizer, rename_vocabulary],
    "`length_hint` or `max_length` of a `string`": [
        every("title", "string", length_hint="characters"),
        every("title", "string", max_length=9),
    ],
    "`shapes` or `memory_limit_mib` of a runtime": [
        spec(lambda d: d["runtimes"][0]["shapes"]["input_ids"].update(opt=[9, 9])),
        spec(lambda d: d["runtimes"][0].update(memory_limit_mib=512)),
    ],
    "an input of `query_text`": [spec(query)],
    "the ONNX file, or its tensors": [other_weights, other_tensors],
    "the contents of a tokenizer or vocabulary": [
        other_tokenizer,
        other_vocabulary,
    ],
    "`item`'s template or max_length": [item(template="{title}"), item(max_length=63)],
    "how `item`'s images are made": [image(scale=1.0), image(mean=[0.1, 0.1, 0.1])],
    "a policy for missing or unknown values": [
        every("category", "category", unknown="reject"),
        every("price", "number", missing=11.0),
        every("pixels", "image", missing="reject"),
    ],
    "`dimension`, `normalize`, `output`, `precision`": [
        spec(lambda d: d.update(dimension=17)),
        spec(lambda d: d.update(normalize="none")),
        spec(lambda d: d["runtimes"][0].update(output="vectors")),
        spec(lambda d: d.update(precision="tf32")),
    ],
    "`tensorrt` of the first runtime": [spec(lambda d: d["runtimes"][0].update(tensorrt=True))],
}
ROWS = table(PAGE, "What is computed again")


def package_for(edit: Edit, folder: Path) -> Path:
    """A package that the edit is an edit of."""
    for make in (
        tiny_text_package_in_two_files,
        tiny_image_package,
        every_input_package,
        tiny_text_package_by_tensorrt,
    ):
        package = make(folder / make.__name__)
        try:
            edit(shutil.copytree(package, folder / f"{make.__name__}.tried"))
        except (KeyError, OSError, StopIteration):
            continue
        return package
    raise ValueError("no package has what the edit changes")


def tiny_text_package_in_two_files(folder: Path) -> Path:
    package = tiny_text_package(folder)
    model = onnx.load(package / "model.onnx")
    onnx.save(model, package / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return package


def tiny_text_package_by_tensorrt(folder: Path) -> Path:
    package = tiny_text_package(folder)
    shapes = {"input_ids": {"min": [1, 1], "opt": [8, 8], "max": [64, 64]}}
    spec(lambda d: d["runtimes"][0].update(tensorrt=True, shapes=shapes))(package)
    return package


def test_every_change_of_the_table_is_tried() -> None:
    assert [change for change, _, _ in ROWS] == list(CHANGES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_which_changes_move_the_digest_of_the_item_encoder(row: list[str], tmp_path: Path) -> None:
    change, says, _ = row
    for number, edit in enumerate(CHANGES[change]):
        package = package_for(edit, tmp_path / str(number))
        before = ModelPackage.open(package)
        whole, encoder = before.package_digest(), before.encoder_digest()
        edit(package)
        after = ModelPackage.open(package)
        assert after.package_digest() != whole
        assert {True: "same", False: "other"}[after.encoder_digest() == encoder] == says


@pytest.mark.parametrize(
    ("change", "computed"), [("an input of `query_text`", 0), ("`item`'s template or max_length", 8)]
)
def test_what_the_next_run_computes(mill: Mill, change: str, computed: int) -> None:
    mill.model = tiny_text_package(mill.root / "model")
    mill.run(items(8))
    CHANGES[change][0](mill.model)
    (says,) = (what for found, _, what in ROWS if found == change)
    assert says.startswith("every vector" if computed else "nothing")
    assert mill.run().computed == computed
    live = ModelPackage.open(mill.live().model_folder)
    assert live.package_digest() == ModelPackage.open(mill.model).package_digest()
