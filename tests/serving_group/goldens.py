"""What a release published: rows as its encoder reads them, and their vectors."""

from __future__ import annotations

import pyarrow as pa

from embedmill.release.reader import Release
from embedmill.serving.proof import release_goldens, stored_vectors
from embedmill.types import Vectors


def golden(release: Release, encoder: str = "item") -> tuple[pa.Table, Vectors]:
    goldens = release_goldens(release, encoder)
    assert goldens is not None
    fields = [name for name in goldens.column_names if not name.startswith("_")]
    return goldens.select(fields), stored_vectors(goldens)
