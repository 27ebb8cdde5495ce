"""WHERE worker loops run. `base` is the seam; one file per engine."""

from embedmill.engines.base import Engine
from embedmill.engines.local import LocalEngine

__all__ = ["Engine", "LocalEngine"]
