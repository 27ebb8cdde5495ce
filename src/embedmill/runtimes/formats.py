"""What model files are and refer to, told by their content and never by their suffix."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

from embedmill.errors import ModelError
from embedmill.spec.loading import POINTER

PICKLE_PROTOCOLS = range(2, 6)


def refuse_pointer(file: Path) -> None:
    """Let a file pass unless it only says where Git LFS has it.

    https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md

    Raises:
        ModelError: It does, or it cannot be read.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(len(POINTER)).decode(errors="replace")
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
    if head == POINTER:
        raise ModelError(f"{file}: is a pointer of Git LFS, and not the file itself", hint="git lfs pull")


def refuse_pickle(file: Path) -> None:
    """Let a file pass unless it is of the pickle family (.bin, .pt, .pth, .pkl, .ckpt, joblib).

    Loading a pickle runs whatever code its author wrote, so none is ever loaded.

    Raises:
        ModelError: It is one, whatever its name says, or it cannot be read, or is a pointer of Git LFS.
    """
    refuse_pointer(file)
    try:
        pickled = _is_pickle(file)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
    if pickled:
        raise ModelError(
            f"{file}: is a pickle, and loading one can run any code; it is never loaded",
            hint="save the weights as safetensors, or export the model to ONNX",
        )


def _is_pickle(file: Path) -> bool:
    """A plain pickle, or the zip archive with pickles inside that torch writes."""
    with file.open("rb") as stream:
        head = stream.read(4)
    if head == b"PK\x03\x04":
        try:
            with zipfile.ZipFile(file) as archive:
                return any(name.endswith(".pkl") for name in archive.namelist())
        except zipfile.BadZipFile:
            return False
    return len(head) > 1 and head[0] == 0x80 and head[1] in PICKLE_PROTOCOLS


def is_xml(file: Path) -> bool:
    """Whether a file is XML, as OpenVINO's IR is; False of what cannot be read."""
    try:
        with file.open("rb") as stream:
            return stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    except OSError:
        return False


def inside(root: Path, name: str, *, said_by: str) -> Path:
    """Where `name` (relative, `/`-separated) lies in the folder `root`; it need not exist.

    Args:
        root: The folder that may not be left.
        name: What a spec or a model file says.
        said_by: Who says so, for the message.

    Raises:
        ModelError: It leads out of the folder: by `..`, as an absolute path, or over a symbolic link.
    """
    parts = PurePosixPath(name)
    plain = name and "\0" not in name and not parts.is_absolute() and ".." not in parts.parts
    if not plain or not (root / name).resolve().is_relative_to(root.resolve()):
        raise ModelError(
            f"{said_by}: {name!r} leads out of the folder {root}",
            hint="a model package holds all its files itself",
        )
    return root / name


def confined(root: Path, name: str, *, said_by: str) -> Path:
    """The file `name` of the folder `root`; see `inside`.

    Raises:
        ModelError: There is no such file, or it lies elsewhere.
    """
    path = inside(root, name, said_by=said_by)
    if not path.is_file():
        raise ModelError(
            f"{said_by}: {name!r} is no file in {root}", hint="put it there, or correct its name"
        )
    return path
