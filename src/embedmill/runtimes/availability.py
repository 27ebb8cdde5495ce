"""Whether a declared runtime can compute on this machine's CPU, told without loading its model."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from embedmill.errors import EmbedmillError, MissingExtra
from embedmill.runtimes.jax_artifact import check_platforms, lowered_for
from embedmill.runtimes.remote.runtime import address
from embedmill.spec import JaxSpec, RemoteRuntime, RuntimeSpec

LIBRARIES = {
    "onnx": {"onnxruntime": "ONNX Runtime"},
    "openvino": {"openvino": "OpenVINO"},
    "tensorflow": {"tensorflow": "TensorFlow"},
    "torch": {"torch": "PyTorch"},
    "jax": {"jax": "JAX", "flatbuffers": "JAX"},
    "triton": {"aiohttp": "aiohttp"},
    "tf_serving": {"aiohttp": "aiohttp"},
}
"""Kind → what it imports, and what people call that."""
GRPC = {"tritonclient": "tritonclient", "grpc": "tritonclient"}


@dataclass(frozen=True)
class Availability:
    """`why` not, empty where it can; `platforms` that an artifact of JAX was lowered for, where known."""

    why: str
    platforms: tuple[str, ...] | None = None


def availability(spec: RuntimeSpec, root: Path) -> Availability:
    """Look whether the library is installed, a server's address known, and an artifact lowered for cpu.

    Nothing is loaded and no server asked: `model check` does. An artifact of JAX is looked into by a child
    process, which takes about a second.

    Args:
        spec: A `runtimes:` section.
        root: The package's folder.
    """
    platforms = None
    try:
        url = address(spec) if isinstance(spec, RemoteRuntime) else ""
        for module, name in (GRPC if url.startswith("grpc:") else LIBRARIES[spec.kind]).items():
            if not _installed(module):
                raise MissingExtra(name, extra=spec.EXTRA)
        if isinstance(spec, JaxSpec):
            platforms = lowered_for(root / spec.file)
            check_platforms(platforms, spec.platforms, "cpu", said_by=str(root / spec.file))
    except EmbedmillError as error:
        return Availability(str(error), platforms)
    return Availability("", platforms)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False
