"""Which output of a model is taken where model.yaml names none, although others would do as well."""

from __future__ import annotations

from embedmill.model.encoder import Encoder
from embedmill.runtimes import TensorSpec
from embedmill.spec import RuntimeSpec

NO_NUMBERS = frozenset({"bool", "string", "complex64", "complex128"})
"""Types of outputs that are refused as vectors."""


def said_of_output(encoder: Encoder, spec: RuntimeSpec) -> str:
    """A sentence on the output that is taken, where no key says which, and several may be it; else nothing.

    Vectors of another layer, head or tower look like vectors: nothing later would notice.
    """
    taken, outputs = encoder.runtime.output, encoder.runtime.outputs
    alike = [name for name, each in outputs.items() if _fits(each, encoder.dimension)]
    if spec.output is not None or len(alike) < 2:
        return ""
    return (
        f"{spec.kind} {spec.model_name}: {len(alike)} outputs have {encoder.dimension} values a row: "
        f"{', '.join(alike)}; {taken.name!r} is taken: write `output` into model.yaml where it is another"
    )


def _fits(output: TensorSpec, dimension: int) -> bool:
    """Whether it may hold vectors; a type, shape or width that is not known is no contradiction."""
    if output.dtype in NO_NUMBERS:
        return False
    width = output.shape[-1] if output.shape else None
    return len(output.shape) in (0, 2) and (not isinstance(width, int) or width == dimension)
