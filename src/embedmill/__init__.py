"""Embedmill: whole catalogs into embeddings, published with model and index as one verified release.

Three levels:

    embed(table, model)                       a table with its vectors, now and here
    Pipeline.from_file(path).plan().run()     a release, from a pipeline.yaml
    Release.open(url).search("red fruit")     a published release: its items, vectors and search
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedmill.errors import EmbedmillError
    from embedmill.model import embed
    from embedmill.pipeline import Pipeline
    from embedmill.release.reader import Release
    from embedmill.types import Hit

__version__ = "0.1.0"

__all__ = ["EmbedmillError", "Hit", "Pipeline", "Release", "__version__", "embed"]

_HOMES = {
    "EmbedmillError": "embedmill.errors",
    "Hit": "embedmill.types",
    "Pipeline": "embedmill.pipeline",
    "Release": "embedmill.release.reader",
    "embed": "embedmill.model",
}


def __getattr__(name: str) -> Any:
    """Import public names at first use, so that `import embedmill` costs nothing."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'embedmill' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
