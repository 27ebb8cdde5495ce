"""The folders that readers of the pages have before they begin."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto
from PIL import Image
from tests.docs.pages import Reader
from tests.fleet.facts import gpu, host
from tests.models import tiny_bert_folder, tiny_image_package, tiny_text_package
from tests.one_input import mirror_package

from embedmill.model.sentence_transformers import import_sentence_transformers
from embedmill.spec.fleet_reports import FleetProbe, ServerProbe

GARMENTS = ["warm winter jacket", "light rain coat", "wool socks", "leather boots", "straw hat", "silk scarf"]
SPEC = """\
name: similar-items
catalog:
  source: items/*.parquet
  id: sku
  where: "active = true"
  display: [title, price]
model: models/minilm
store: ./mill
"""
QUERIES = """\
{"query": "warm winter jacket", "relevant": ["s6", "s12", "s24"]}
{"query": "straw hat 4", "relevant": {"s4": 3, "s10": 1, "gone": 1}}
"""
PICTURES = """\
name: pictures
catalog: {source: pictures.csv, id: name, images: photos}
model: models/pictures
store: ./mill
"""


def garments(count: int = 60) -> pa.Table:
    """One in nine is not active."""
    numbers = range(count)
    columns = {
        "sku": [f"s{n}" for n in numbers],
        "title": [f"{GARMENTS[n % 6]} {n}" for n in numbers],
        "category": ["clothes"] * count,
        "price": [1 + n / 2 for n in numbers],
        "active": [n % 9 > 0 for n in numbers],
    }
    return pa.table(columns)


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder, and the package made of it beside it."""
    folder = tmp_path_factory.mktemp("minilm")
    source = tiny_bert_folder(folder / "all-MiniLM-L6-v2")
    import_sentence_transformers(source, folder / "package", template="{title}. {category}")
    return folder


def furniture_package(folder: Path) -> None:
    """An export that reads a picture, a category, tags and a price."""
    item = {name: {"number": {"field": name}} for name in ("pixels", "category", "tags", "price", "no_price")}
    shapes = {"pixels": (3, 64, 64), "category": (), "tags": (8,), "price": (1,), "no_price": (1,)}
    kinds = {"category": TensorProto.INT64, "tags": TensorProto.INT64}
    inputs = [(name, kinds.get(name, TensorProto.FLOAT), shapes[name]) for name in shapes]
    mirror_package(folder, item, *inputs, dimension=64, projected=True)
    (folder / "words.txt").unlink()


CARDS = [
    ("Tesla T4", "Tesla", (7, 5), "535.183.01"),
    ("Tesla V100-SXM2-16GB", "Tesla", (7, 0), "525.147.05"),
    ("NVIDIA A100-SXM4-80GB", "NVIDIA", (8, 0), "470.223.02"),
]


def probed() -> FleetProbe:
    """Three servers with a GPU each, as a probe tells of them."""
    servers = [
        ServerProbe(
            server=f"gpu-0{number}",
            state="ok",
            reason="",
            seconds=1.0,
            facts=host(gpu(name=name, brand=brand, compute_capability=capability), driver=driver, cuda=None),
        )
        for number, (name, brand, capability, driver) in enumerate(CARDS, 1)
    ]
    return FleetProbe(taken="2026-01-30T12:00:00Z", seconds=1.0, servers=tuple(servers))


@pytest.fixture
def reader(tmp_path: Path, minilm: Path) -> Reader:
    """Models as they are exported, a package, a catalog in two formats and a pipeline.yaml."""
    (tmp_path / "all-MiniLM-L6-v2").symlink_to(minilm / "all-MiniLM-L6-v2")
    shutil.copytree(minilm / "package", tmp_path / "models" / "minilm")
    tiny_text_package(tmp_path / "export", dimension=384, max_length=256)
    tiny_image_package(tmp_path / "photos", dimension=512, side=224)
    tiny_text_package(tmp_path / "towers", dimension=384)
    (tmp_path / "towers" / "model.onnx").rename(tmp_path / "towers" / "item.onnx")
    shutil.copy(tmp_path / "towers" / "item.onnx", tmp_path / "towers" / "query.onnx")
    furniture_package(tmp_path / "shop")
    for export in ("export", "photos", "towers", "shop"):
        (tmp_path / export / "model.yaml").unlink()
    for name, colour in (("red", (200, 30, 30)), ("green", (30, 200, 30))):
        Image.new("RGB", (300, 260), colour).save(tmp_path / "photos" / f"{name}.png")
    tiny_image_package(tmp_path / "models" / "pictures", side=32)
    (tmp_path / "pictures.csv").write_text("name,image\nred,red.png\ngreen,green.png\n")
    (tmp_path / "pictures.yaml").write_text(PICTURES)
    (tmp_path / "items").mkdir()
    pq.write_table(garments(), tmp_path / "items" / "day.parquet")
    pyarrow.csv.write_csv(garments(), tmp_path / "items" / "day.csv")
    (tmp_path / "pipeline.yaml").write_text(SPEC)
    (tmp_path / "queries.jsonl").write_text(QUERIES)
    (tmp_path / "probe.json").write_bytes(probed().to_bytes())
    return Reader.at(tmp_path)
