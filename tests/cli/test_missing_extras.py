"""Without an optional dependency, each command that needs it says in one line which extra to install.

An extra that pyproject.toml declares needs a case in CASES: one line, with what may not be imported, a
command, and how to prepare the folder that it runs in.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from tests.cli.terminal import Said
from tests.models import tiny_bert_folder, tiny_image_package, tiny_text_package
from tests.runtimes.saved_model_bytes import model as savable
from tests.support.blocking import blocking
from tests.support.mill import Mill, items

from embedmill.spec import RUNTIMES

Prepare = Callable[[Mill], None]
REPOSITORY = Path(__file__).parents[2]

BOTH = """\
import io, json, sys
from embedmill.cli import main

stdout, said = sys.stdout, []
for options in [], ["--json"]:
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    code = main([*sys.argv[1:], *options])
    out, err = (stream.buffer.getvalue().decode() for stream in (sys.stdout, sys.stderr))
    said.append({"code": code, "out": out, "err": err})
stdout.write(json.dumps(said))
"""
"""A program that runs a command twice, first as it is and then with --json, and prints what each said."""


@dataclass(frozen=True)
class Case:
    """A command that needs `extra`, and what of it cannot be imported."""

    extra: str
    blocked: str
    command: str
    prepare: Prepare

    def __str__(self) -> str:
        return f"{self.extra}: {self.command} without {self.blocked}"


def catalog(mill: Mill) -> None:
    mill.write(items(8))
    mill.open()


def released(mill: Mill) -> None:
    mill.run(items(8))


def planned(mill: Mill) -> None:
    mill.planned(items(8))


def settings(**changed: Any) -> Prepare:
    def prepare(mill: Mill) -> None:
        mill.settings |= changed
        catalog(mill)

    return prepare


def source(url: str) -> Prepare:
    return settings(catalog={"source": url, "table": "items", "id": "sku", "display": ["title"]})


def released_with_graph(mill: Mill) -> None:
    settings(index={"kind": "hnsw", "exact_below": 1})(mill)
    mill.run(items(8))


def image_urls(mill: Mill) -> None:
    mill.model = tiny_image_package(mill.root / "images")
    mill.schema = pa.schema([("sku", pa.string()), ("image", pa.string())])
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku"}
    mill.write([{"sku": "s1", "image": "https://images.example/1.png"}])
    mill.open()


def sentence_transformers(mill: Mill) -> None:
    tiny_bert_folder(mill.root / "folder")


def another_architecture(mill: Mill) -> None:
    config = tiny_bert_folder(mill.root / "folder") / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "mpnet"}))


def saved_model(mill: Mill) -> None:
    package(kind="tensorflow", folder="towers")(mill)
    savable().save(mill.root / "package" / "towers")


def jax_spec(mill: Mill) -> None:
    spec = tiny_text_package(mill.root / "folder") / "model.yaml"
    runtimes = {"runtimes": [{"kind": "jax", "file": "model.jax"}]}
    spec.write_text(yaml.safe_dump(yaml.safe_load(spec.read_text()) | runtimes))


def package(**runtime: str | int) -> Prepare:
    """A text package in `package` whose only runtime is declared like this."""

    def prepare(mill: Mill) -> None:
        spec = tiny_text_package(mill.root / "package") / "model.yaml"
        spec.write_text(yaml.safe_dump(yaml.safe_load(spec.read_text()) | {"runtimes": [runtime]}))

    return prepare


def on_a_cluster(mill: Mill) -> None:
    settings(engine="kubernetes", kubernetes={"families": {"cpu": {}}})(mill)


def on_ray(mill: Mill) -> None:
    section = {"address": "127.0.0.1:6379", "families": {"cpu": {}}, "shared": [str(mill.root)]}
    settings(engine="ray", ray=section)(mill)


LARGE = ("jax", "ray", "tensorflow", "torch")
"""Extras that `all` leaves out: each is more than everything else together."""
TRITON: dict[str, str | int] = {"kind": "triton", "model": "m", "version": 1}
CASES = [
    Case("onnx", "onnxruntime", "model check package", package(kind="onnx", file="model.onnx")),
    Case("onnx", "onnxruntime", "run pipeline.yaml --quiet", catalog),
    Case("onnx", "onnxruntime", "search pipeline.yaml --text lamp", released),
    Case("faiss", "faiss", "plan pipeline.yaml --quiet", settings(index={"kind": "hnsw", "exact_below": 1})),
    Case("faiss", "faiss", "search pipeline.yaml --item s1", released_with_graph),
    Case("openvino", "openvino", "model check package", package(kind="openvino", file="model.onnx")),
    Case("jax", "jax", "model check package", package(kind="jax", file="model.onnx")),
    Case("jax", "jax", "model import shop:embed --spec folder/model.yaml --out package", jax_spec),
    Case("import", "onnx", "model import folder --out package", sentence_transformers),
    Case("import", "safetensors", "model import folder --out package", sentence_transformers),
    Case("cloud", "obstore", "plan pipeline.yaml", settings(store="s3://bucket/mill")),
    Case("cloud", "obstore", "status pipeline.yaml", settings(store="gs://bucket/mill")),
    Case("cloud", "obstore", "store check az://bucket/mill", catalog),
    Case("http", "aiohttp", "plan pipeline.yaml", image_urls),
    Case("sql", "adbc_driver_sqlite", "plan pipeline.yaml", source("sqlite:///shop.db")),
    Case("sql", "adbc_driver_postgresql", "plan pipeline.yaml", source("postgresql://127.0.0.1:9/shop")),
    Case("sql", "adbc_driver_manager", "plan pipeline.yaml", source("postgresql://127.0.0.1:9/shop")),
    Case("tensorflow", "tensorflow", "model check package", saved_model),
    Case(
        "torch",
        "torch sentence_transformers transformers",
        "model import folder --out package",
        another_architecture,
    ),
    Case("triton", "tritonclient grpc", "model check package", package(**TRITON, url="grpc://127.0.0.1:9")),
    Case("triton", "aiohttp", "model check package", package(**TRITON, url="http://127.0.0.1:9")),
    Case(
        "http",
        "aiohttp",
        "model check package",
        package(**TRITON | {"kind": "tf_serving"}, url="http://127.0.0.1:9"),
    ),
    Case("kubernetes", "kubernetes", "run pipeline.yaml", on_a_cluster),
    Case("ray", "ray", "run pipeline.yaml", on_ray),
    Case("serve", "fastapi", "serve pipeline.yaml", released),
    Case("serve", "uvicorn", "serve pipeline.yaml", released),
    Case("sqlalchemy", "sqlalchemy", "plan pipeline.yaml", source("mysql+pymysql://127.0.0.1:9/shop")),
]


def declared() -> dict[str, list[str]]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    return extras


def without(case: Case, mill: Mill) -> Said:
    """What the case's command says where its library cannot be imported."""
    return _blocked(case, mill, [sys.executable, "-m", "embedmill"])


def without_and_with_json(case: Case, mill: Mill) -> tuple[Said, Said]:
    """The same, and what it then says with --json: in one process, since most of its time is its start."""
    both = _blocked(case, mill, [sys.executable, "-c", BOTH])
    assert both.code == 0, both
    said, with_json = (Said(**each) for each in json.loads(both.out))
    return said, with_json


def _blocked(case: Case, mill: Mill, program: list[str]) -> Said:
    case.prepare(mill)
    words = [_path(mill, word) for word in shlex.split(case.command)]
    environment = {**os.environ, **blocking(mill.root / "path", case.blocked)}
    done = subprocess.run(
        [*program, *words], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    return Said(done.returncode, done.stdout, done.stderr)


def _path(mill: Mill, word: str) -> str:
    own = word.partition("/")[0] in {"pipeline.yaml", "package", "folder"}
    return str(mill.root / word) if own else word


def test_every_extra_has_a_case() -> None:
    assert {case.extra for case in CASES} == declared().keys() - {"all"}


def test_the_extra_of_every_runtime_is_one() -> None:
    assert {section.EXTRA for section in RUNTIMES} < declared().keys()


def test_show_tells_which_library_is_missing_and_does_not_fail(mill: Mill) -> None:
    case = Case("jax", "jax", "model show package --json", package(kind="jax", file="model.onnx"))
    (runtime,) = json.loads(without(case, mill).out)["runtimes"]
    assert (runtime["available"], runtime["platforms"]) == (False, None)
    assert runtime["why"] == "JAX is not installed (pip install 'embedmill[jax]')"


def test_the_extra_all_is_all_but_the_large_frameworks() -> None:
    (everything,) = declared()["all"]
    named = re.fullmatch(r"embedmill\[(.*)\]", everything)
    assert named is not None
    assert set(named[1].split(",")) == declared().keys() - {"all", *LARGE}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_command_without_its_library_names_the_extra_in_one_line_or_one_document(
    case: Case, mill: Mill
) -> None:
    said, with_json = without_and_with_json(case, mill)
    assert said.code == 2, said
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    assert "is not installed" in line
    assert f"pip install 'embedmill[{case.extra}]'" in line
    assert said.out == ""
    assert with_json.code == 2
    error = with_json.json["error"]
    assert error["code"] == "MissingExtra"
    assert error["hint"] == f"pip install 'embedmill[{case.extra}]'"


def test_a_worker_without_its_library_is_quoted_by_the_command_that_started_it(mill: Mill) -> None:
    said = without(Case("onnx", "onnxruntime", "resume pipeline.yaml --quiet", planned), mill)
    why = "ONNX Runtime is not installed (pip install 'embedmill[onnx]')"
    assert (said.code, said.out, said.err) == (1, "", f"error: worker local-0: {why}\n")
