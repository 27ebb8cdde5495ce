"""Which runtimes are installed here, told without importing them; what ONNX Runtime reads is tried."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from embedmill.errors import MissingExtra
from embedmill.spec.environment import Environment, InstalledRuntime

DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = {
    "onnx": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "torch": ("torch",),
    "jax": ("jax",),
    "triton": ("aiohttp",),
    "tf_serving": ("aiohttp",),
}
"""Kind of runtime → what it is called where it is installed; the first that is there counts."""


def this_environment() -> Environment:
    """What is installed here."""
    found = {kind: _installed(names) for kind, names in DISTRIBUTIONS.items()}
    runtimes = {kind: runtime for kind, runtime in found.items() if runtime is not None}
    if "onnx" in runtimes:
        runtimes["onnx"] = _measured(runtimes["onnx"])
    return Environment(
        python=platform.python_version(),
        machine=f"{platform.system().lower()}-{platform.machine()}",
        runtimes=runtimes,
    )


def _installed(names: tuple[str, ...]) -> InstalledRuntime | None:
    for name in names:
        try:
            return InstalledRuntime(library=name, version=version(name))
        except PackageNotFoundError:
            continue
    return None


def _measured(runtime: InstalledRuntime) -> InstalledRuntime:
    from embedmill.runtimes.onnx import newest_read

    try:
        opset, ir = newest_read()
    except MissingExtra:  # its files are gone, or are for another platform
        return runtime
    return runtime.model_copy(update={"max_opset": opset or None, "max_ir": ir or None})
