"""Model packages: what a model sees and what it makes of it, for worker and server alike."""

from typing import TYPE_CHECKING

from embedmill.lazy import offered

if TYPE_CHECKING:
    from embedmill.model.batches import pack
    from embedmill.model.embedding import embed
    from embedmill.model.encoder import Encoder
    from embedmill.model.inputs import canonical_columns, render
    from embedmill.model.package import ModelPackage

__all__ = ["Encoder", "ModelPackage", "canonical_columns", "embed", "pack", "render"]

__getattr__ = offered(
    __name__,
    {
        "Encoder": "encoder",
        "ModelPackage": "package",
        "canonical_columns": "inputs",
        "embed": "embedding",
        "pack": "batches",
        "render": "inputs",
    },
)
