"""Engines of TensorRT on this machine: built once for a model and a GPU type, and never part of a package."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from embedmill.errors import ModelError
from embedmill.runtimes.cuda_driver import Gpu
from embedmill.spec import OnnxSpec, Precision


def engine_folder(
    cache: Path,
    *,
    gpu: Gpu,
    versions: Mapping[str, str],
    files: Sequence[Path],
    spec: OnnxSpec,
    precision: Precision,
) -> Path:
    """The folder of a model's engines, named by all that an engine holds for.

    An engine is bound to the GPU type and to TensorRT's version; ONNX Runtime does not notice by itself that
    model, provider or hardware are others (onnxruntime.ai, TensorRT Execution Provider, engine cache).

    Args:
        cache: Embedmill's cache on this machine.
        gpu: What it is to run on.
        versions: Those of ONNX Runtime, TensorRT, and what else computes.
        files: The ONNX file, and those with its tensors.
        spec: The section of the package.
        precision: What is declared.
    """
    document = {
        "gpu": [gpu.name, gpu.capability, gpu.driver, gpu.cuda],
        "versions": dict(versions),
        "files": [_sha256(file) for file in files],
        "precision": precision,
        "shapes": {name: shapes.model_dump() for name, shapes in spec.shapes.items()},
        "memory_limit_mib": spec.memory_limit_mib,
    }
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:32]
    kind = re.sub(r"[^a-z0-9]+", "-", gpu.name.lower()).strip("-")
    return cache / "engines" / f"{kind}-sm{gpu.capability.replace('.', '')}" / digest


@contextmanager
def kept(folder: Path) -> Iterator[Path]:
    """Where a session finds its engines, or makes them: whole ones, which this machine has once.

    Building takes minutes, and two builds choose other kernels: processes that come meanwhile wait. What is
    not finished without an error is removed.

    Raises:
        ModelError: The cache cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f"{folder.name}.lock").open("w")
    except OSError as error:
        raise ModelError(
            f"{folder}: engines of TensorRT cannot be kept: {error.strerror}",
            hint="point EMBEDMILL_CACHE to a writable folder",
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            yield folder
            return
        partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
        try:
            yield partial
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
