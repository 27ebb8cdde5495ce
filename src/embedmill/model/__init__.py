"""Model packages: what a model sees and what it makes of it, for worker and server alike."""

from embedmill.model.batches import pack
from embedmill.model.embedding import embed
from embedmill.model.encoder import Encoder
from embedmill.model.inputs import canonical_columns, render
from embedmill.model.package import ModelPackage

__all__ = ["Encoder", "ModelPackage", "canonical_columns", "embed", "pack", "render"]
