"""Which files of a package each kind of runtime reads, told without its library."""

from __future__ import annotations

from pathlib import Path

from embedmill.errors import ModelError
from embedmill.runtimes.formats import confined, inside, is_xml, refuse_pointer
from embedmill.runtimes.onnx_external import external_files
from embedmill.spec import OnnxSpec, OpenVinoSpec, RuntimeSection


def contents(spec: RuntimeSection, root: Path, *, said_by: str) -> tuple[Path, ...]:
    """All files that the runtime reads.

    Of a file: itself first, then those that it refers to, sorted. Of a folder: all of it, sorted. Nothing
    where a server has the model.

    Args:
        spec: A `runtimes:` section.
        root: The package's folder.
        said_by: Whose section it is, for messages.

    Raises:
        ModelError: A file is absent or damaged, a pointer of Git LFS, or lies outside of the folder.
    """
    if spec.path is None:
        return ()
    path = inside(root, spec.path, said_by=said_by)
    return (
        files_at(path, spec) if path.is_dir() else files_at(confined(root, spec.path, said_by=said_by), spec)
    )


def files_at(path: Path, spec: RuntimeSection) -> tuple[Path, ...]:
    """The same of a model that lies at `path`, wherever the section says that it is.

    Raises:
        ModelError: A file is absent or damaged, a pointer of Git LFS, or lies outside of the model's folder.
    """
    if path.is_file():  # before it is parsed, which says only that it is damaged
        refuse_pointer(path)
    files = _files_at(path, spec)
    for file in files:
        refuse_pointer(file)
    return files


def _files_at(path: Path, spec: RuntimeSection) -> tuple[Path, ...]:
    if path.is_dir():
        return _folder(path)
    if isinstance(spec, OpenVinoSpec) and is_xml(path):
        return (path, confined(path.parent, path.with_suffix(".bin").name, said_by=str(path)))
    return (path, *external_files(path)) if isinstance(spec, OnnxSpec | OpenVinoSpec) else (path,)


def _folder(path: Path) -> tuple[Path, ...]:
    found = list(path.rglob("*"))
    for link in (each for each in found if each.is_symlink() and each.is_dir()):
        raise ModelError(f"{link}: is a link to a folder", hint="put the folder itself there")
    files = sorted(file for file in found if not file.is_dir())
    if not files:
        raise ModelError(f"{path}: is an empty folder", hint="put the model there")
    return tuple(confined(path, file.relative_to(path).as_posix(), said_by=str(path)) for file in files)
