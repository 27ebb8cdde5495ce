"""What the weights of a `.keras` file may refer to: only themselves.

HDF5 knows links to other files, values that lie in other files, and values that are put together from other
files. Keras has read them all before (CVE-2026-1669), so that whatever the process may read became weights.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HDF5_MEMBERS = (".h5", ".hdf5")


def check_weights(file: Path) -> None:
    """Let the weights pass if all that they are made of lies in their own member of the archive.

    Reads no values; what is linked is not followed.

    Raises:
        ValueError: It is somewhere else; says where.
        OSError: A member is no HDF5 file, or a damaged one.
    """
    import h5py

    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name.endswith(HDF5_MEMBERS):
                with h5py.File(io.BytesIO(archive.read(name)), "r") as weights:
                    for path, problem in _problems(weights):
                        raise ValueError(f"{name!r}: {path!r} {problem}")


def _problems(weights: Any) -> Iterator[tuple[str, str]]:
    """Path and what is wrong there, of all that leads elsewhere."""
    import h5py

    pending, seen = [weights], set()
    while pending:
        group = pending.pop()
        place = h5py.h5o.get_info(group.id).addr
        if place in seen:  # groups can contain each other
            continue
        seen.add(place)
        for name in group:
            path = f"{group.name.rstrip('/')}/{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                yield path, f"is a link to {_target(link)}"
                continue
            found = group[name]
            if isinstance(found, h5py.Group):
                pending.append(found)
            elif isinstance(found, h5py.Dataset):
                yield from ((path, problem) for problem in _elsewhere(found))


def _target(link: Any) -> str:
    file = getattr(link, "filename", None)
    return repr(link.path) if file is None else f"{link.path!r} of the file {file!r}"


def _elsewhere(dataset: Any) -> Iterator[str]:
    for file, *_ in dataset.external or ():
        yield f"has its values in the file {file!r}"
    if dataset.is_virtual:
        sources = ", ".join(sorted({repr(source.file_name) for source in dataset.virtual_sources()}))
        yield f"is put together from values of {sources}"
