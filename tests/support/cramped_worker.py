"""`python -m tests.support.cramped_worker PIPELINE.yaml RUN MIB`: a loop that gets so much more memory."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from tests.models import tiny_text_package

from embedmill import Pipeline
from embedmill.model import Encoder
from embedmill.work import WorkerOptions, work


def hungry_package(folder: Path, *, copies: int = 1 << 15) -> Path:
    """The tiny text model, which makes so many copies of its states first: 2 MiB a token of a batch."""
    tiny_text_package(folder)
    model = onnx.load(folder / "model.onnx")
    nodes = {node.output[0]: node for node in model.graph.node}
    nodes["total"].input[0], nodes["total"].output[0] = "wide", "wide_total"
    at = list(model.graph.node).index(nodes["total"])
    model.graph.node.insert(at, helper.make_node("Tile", ["kept", "copies"], ["wide"]))
    ends = ["wide_total", "zero_d", "dimension", "one_d"]
    model.graph.node.insert(at + 2, helper.make_node("Slice", ends, ["total"]))
    for name, values in (("copies", [1, 1, copies]), ("dimension", [16])):
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / "model.onnx")
    return folder


def main(spec: str, run: str, mib: str) -> None:
    pipeline = Pipeline.from_file(spec)
    Encoder.load(pipeline.package, "query_text").encode_texts(["what libraries take once is not counted"])
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = taken + (int(mib) << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    work(pipeline.home, run, WorkerOptions("cramped"))


if __name__ == "__main__":
    main(*sys.argv[1:])
