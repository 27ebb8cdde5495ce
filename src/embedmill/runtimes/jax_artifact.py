"""Artifacts of `jax.export`: read, looked into by a child process, and refused unless they only compute."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from embedmill.errors import DeviceUnavailable, ModelError
from embedmill.extras import optional
from embedmill.runtimes.base import TensorSpec
from embedmill.runtimes.jax_child import Contents

SAFE_CUSTOM_CALLS = frozenset(
    {"shape_assertion", "stablehlo.dynamic_reduce_window", "stablehlo.dynamic_top_k"}
)
"""Calls that compute, and nothing else; all others, Python's callbacks among them, run code by name."""
MOST_BYTES = 2**31 - 1
"""A flatbuffer cannot be larger."""
CHILD_TIMEOUT_S = 300
"""Its processor time ends sooner; this is for a machine that gives it none."""
SINGLE_OUTPUT = "vectors"
"""The name of an output that is an array rather than one of a dict."""


@dataclass(frozen=True)
class Artifact:
    """An artifact that may run; names and positions of what it takes and gives."""

    exported: Any
    platforms: tuple[str, ...]
    rounded: bool
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


def jax_library() -> ModuleType:
    """The module `jax`, with `jax.export`.

    Raises:
        MissingExtra: JAX is not installed, or what it reads artifacts with is not.
    """
    with optional("JAX", "jax", "flatbuffers", extra="jax"):
        import flatbuffers  # noqa: F401 - jax.export would miss it at the first artifact
        import jax
        import jax.export
    module: ModuleType = jax
    return module


def lowered_for(file: Path) -> tuple[str, ...]:
    """The platforms of an artifact.

    Raises:
        ModelError: It is damaged.
    """
    return tuple(_looked_into(_bytes(file), file)["platforms"])


def check_platforms(there: Sequence[str], declared: Sequence[str], kind: str, *, said_by: str) -> None:
    """Fail unless an artifact is lowered for all that is declared, and for a kind of device.

    Raises:
        ModelError: A declared platform is absent.
        DeviceUnavailable: It is not lowered for that kind.
    """
    words = ", ".join(there)
    absent = [platform for platform in declared if platform not in there]
    if absent:
        raise ModelError(
            f"{said_by}: is lowered for {words}, and model.yaml declares {', '.join(absent)} as well",
            hint="export it for them, or declare the platforms that it has",
        )
    if kind not in there:
        raise DeviceUnavailable(
            f"{said_by}: is not lowered for {kind}, but for {words}",
            hint=f"export it for {kind} too, or choose another device",
        )


def read_artifact(file: Path) -> Artifact:
    """Read an artifact and check that it is one, for one device, and that all it does is compute.

    Raises:
        ModelError: It is damaged, or does something else, such as calling back into Python.
        MissingExtra: JAX is not installed.
    """
    jax = jax_library()
    data = _bytes(file)
    found = _looked_into(data, file)
    _check(found, file)
    exported = jax.export.deserialize(bytearray(data))
    return Artifact(
        exported=exported,
        platforms=tuple(found["platforms"]),
        rounded=found["rounded"],
        inputs=_inputs(jax, exported, file),
        outputs=_outputs(jax, exported, file),
    )


def _bytes(file: Path) -> bytes:
    try:
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise ModelError(f"{file}: is no artifact of jax.export: {size} bytes are too many")
        return file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error


def _looked_into(data: bytes, file: Path) -> Contents:
    """What a child process says of it; see `jax_child`."""
    command = [sys.executable, "-P", "-m", "embedmill.runtimes.jax_child"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_TRACEBACK_FILTERING": "off"}
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, timeout=CHILD_TIMEOUT_S, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"{file}: is damaged: JAX does not come to an end with it") from None
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise ModelError(f"{file}: is damaged: JAX dies of it ({name})")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ModelError(
            f"{file}: is no artifact of jax.export, or a damaged one: {said[-1] if said else '?'}"
        )
    found: Contents = json.loads(done.stdout)
    return found


def _check(found: Contents, file: Path) -> None:
    unsafe = [target for target in found["custom_calls"] if target not in SAFE_CUSTOM_CALLS]
    if unsafe:
        raise ModelError(
            f"{file}: calls code by name, which is not run: {', '.join(unsafe)}",
            hint="export it without callbacks, custom kernels and linear-algebra solvers",
        )
    if found["effects"]:
        raise ModelError(f"{file}: has effects beside computing: {', '.join(found['effects'])}")
    if found["disabled_checks"]:
        raise ModelError(f"{file}: switches JAX's checks off: {', '.join(found['disabled_checks'])}")
    if found["devices"] != 1:
        raise ModelError(f"{file}: is for {found['devices']} devices at once; only one is used")


def _inputs(jax: ModuleType, exported: Any, file: Path) -> dict[str, TensorSpec]:
    """By the keys of the one dict that the function takes, or by its keywords."""
    arguments, keywords = jax.tree.unflatten(exported.in_tree, range(len(exported.in_avals)))
    named = keywords
    if len(arguments) == 1 and not keywords and isinstance(arguments[0], dict):
        named = arguments[0]
    elif arguments:
        named = {}
    if not named or not all(isinstance(position, int) for position in named.values()):
        raise ModelError(
            f"{file}: its inputs have no names",
            hint="export a function of one dict of arrays, or of keywords",
        )
    return {name: _spec(name, exported.in_avals[position]) for name, position in named.items()}


def _outputs(jax: ModuleType, exported: Any, file: Path) -> dict[str, TensorSpec]:
    made = jax.tree.unflatten(exported.out_tree, range(len(exported.out_avals)))
    named = made if isinstance(made, dict) else {SINGLE_OUTPUT: made}
    if not named or not all(isinstance(position, int) for position in named.values()):
        raise ModelError(f"{file}: gives neither an array nor a dict of arrays")
    return {name: _spec(name, exported.out_avals[position]) for name, position in named.items()}


def _spec(name: str, aval: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else str(size) for size in aval.shape)
    return TensorSpec(name, str(aval.dtype), shape)
