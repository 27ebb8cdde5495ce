"""Looks into an artifact of `jax.export` in a process that may die: `python -m embedmill.runtimes.jax_child`.

The artifact comes in on stdin, and what is in it goes out on stdout as JSON (`Contents`). JAX's parser of
MLIR is no guard: of damaged bytes it may crash, or never come back.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, TypedDict

MULTIPLICATIONS = ("stablehlo.dot_general", "stablehlo.dot", "stablehlo.convolution")
CPU_S, BYTES_A_CPU_S = 20, 10_000_000
"""How long parsing may take: so much, and a second for so many bytes."""
MEMORY_BYTES = 8 * 2**30
"""What parsing may take, beside three copies of the artifact."""


class Contents(TypedDict):
    """What decides whether an artifact may run."""

    platforms: list[str]
    devices: int
    effects: list[str]
    disabled_checks: list[str]
    custom_calls: list[str]
    rounded: bool
    """Whether a multiplication of float32 may be rounded: its precision is not HIGHEST."""


def main() -> None:
    """Read stdin, write stdout."""
    data = sys.stdin.buffer.read()
    most = MEMORY_BYTES + 3 * len(data)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    cpu_s = CPU_S + len(data) // BYTES_A_CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    json.dump(contents(data), sys.stdout)


def contents(data: bytes) -> Contents:
    """What is in an artifact; raises whatever JAX raises where it is damaged."""
    from jax import export

    exported = export.deserialize(bytearray(data))
    operations = list(_operations(exported.mlir_module_serialized))
    if not any(operation.returns for operation in operations):
        raise ValueError("no function was found in it")
    effects = [*exported.ordered_effects, *exported.unordered_effects]
    return Contents(
        platforms=list(exported.platforms),
        devices=exported.nr_devices,
        effects=sorted({type(effect).__name__ for effect in effects}),
        disabled_checks=sorted(map(str, exported.disabled_safety_checks)),
        custom_calls=sorted({operation.target for operation in operations if operation.target}),
        rounded=any(operation.rounds for operation in operations),
    )


class _Operation(NamedTuple):
    target: str
    """What a custom call calls by name, and "" of all else."""
    rounds: bool
    returns: bool


def _operations(module: bytes) -> Iterator[_Operation]:
    """All operations, in functions and in whatever is nested in them."""
    from jax.interpreters import mlir
    from jaxlib.mlir.dialects import stablehlo

    with mlir.make_ir_context() as context:
        parsed = stablehlo.deserialize_portable_artifact(context, module)  # owns what the walk visits
        pending = [parsed.operation]
        while pending:
            operation = pending.pop()
            yield _Operation(_target(operation), _rounds(operation), operation.name == "func.return")
            for region in operation.regions:
                pending += [inner.operation for block in region for inner in block]


def _target(operation: Any) -> str:
    """Of `stablehlo.custom_call` and whatever else calls by name."""
    attributes = operation.attributes
    if "call_target_name" in attributes:
        return str(attributes["call_target_name"]).strip('"') or "(no name)"
    return "(no name)" if operation.name.endswith("custom_call") else ""


def _rounds(operation: Any) -> bool:
    if operation.name not in MULTIPLICATIONS or "f32" not in str(operation.operands[0].type):
        return False
    if "precision_config" not in operation.attributes:
        return True
    return any("HIGHEST" not in str(each) for each in operation.attributes["precision_config"])


if __name__ == "__main__":
    main()
