"""Opening a model begins before all else is imported; what is wrong is told where the model is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.models import tiny_text_package

from embedmill.errors import ModelError
from embedmill.model import Encoder
from embedmill.model.begun import begin
from embedmill.types import Opening

LATER = {"pyarrow", "PIL", "tokenizers", "embedmill.catalog", "embedmill.release", "embedmill.work"}


def test_nothing_is_imported_first_that_only_a_loop_at_work_needs(tmp_path: Path) -> None:
    """Neither by the module nor by what it begins, to the end."""
    model = str(tiny_text_package(tmp_path / "text"))
    code = (
        "import sys\n"
        "from embedmill.model.begun import begin\n"
        "from embedmill.types import Opening\n"
        f"begun = begin(Opening({model!r}, 512, 16, all_lanes=True), lanes=2)\n"
        "begun.threads.shutdown()\n"
        "begun.loaded.result(), begun.digested.result()\n"
        f"print({LATER!r} & sys.modules.keys())"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "set()\n"


def test_what_is_begun_becomes_an_encoder_that_computes(tmp_path: Path) -> None:
    begun = begin(Opening(str(tiny_text_package(tmp_path / "text")), 512, 16, all_lanes=True), lanes=2)
    assert begun is not None
    with begun.threads:
        encoder = Encoder.of(begun.loaded.result()).as_encoder("query_text")
        assert begun.digested.result() == begun.package.package_digest()
    assert encoder.sessions.opened == 2
    usual = Encoder.load(begun.package, "query_text").encode_texts(["red lamp"])
    assert (encoder.encode_texts(["red lamp"]) == usual).all()


def test_a_damaged_file_is_told_where_the_model_is_asked_for(tmp_path: Path) -> None:
    folder = tiny_text_package(tmp_path / "text")
    file = folder / "model.onnx"
    file.write_bytes(file.read_bytes().replace(b"Gather", b"Gothic"))
    begun = begin(Opening(str(folder), 512, 16))
    assert begun is not None
    with begun.threads, pytest.raises(ModelError, match="ONNX Runtime cannot load it"):
        begun.loaded.result()


@pytest.mark.parametrize("wrong", ["not yaml: [", yaml.safe_dump({"name": "no model"})])
def test_a_package_that_cannot_be_read_begins_nothing(tmp_path: Path, wrong: str) -> None:
    folder = tiny_text_package(tmp_path / "text")
    (folder / "model.yaml").write_text(wrong)
    assert begin(Opening(str(folder), 512, 16)) is None
