"""Which files of a package each kind of runtime reads, told without its library."""

from __future__ import annotations

from pathlib import Path

from embedmill.runtimes.formats import confined
from embedmill.runtimes.onnx_external import external_files
from embedmill.spec import RuntimeSpec


def contents(spec: RuntimeSpec, root: Path, *, said_by: str) -> tuple[Path, ...]:
    """All files that the runtime reads: the main one first, then those that it refers to, sorted.

    Args:
        spec: A `runtimes:` section.
        root: The package's folder.
        said_by: Whose section it is, for messages.

    Raises:
        ModelError: A file is absent or damaged, or lies outside of the folder.
    """
    file = confined(root, spec.file, said_by=said_by)
    return (file, *external_files(file))
