"""What a `.keras` file is made of, checked before Keras reads a byte of it.

Its `config.json` names classes that loading calls with arguments of the file's choice. Keras's own safe mode
has been got around more than once (CVE-2025-1550, CVE-2026-1462), so only classes of layers and their parts
pass, and none of those that run what they are given or read other files.
"""

from __future__ import annotations

import fnmatch
import json
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from embedmill.errors import ModelError
from embedmill.runtimes.formats import refuse_pickle

HDF5 = b"\x89HDF\r\n\x1a\n"
MEMBERS = ("config.json", "metadata.json", "*.weights.h5", "*.weights.json", "assets/*")
CONFIG = "config.json"
LARGEST_CONFIG_BYTES = 256 << 20
MOST_MEMBERS = 10_000
MOST_EXPANSION = 100
"""Times that a member may be larger than its compressed form."""

MODULES = frozenset(
    {
        "keras",
        "keras.constraints",
        "keras.dtype_policies",
        "keras.initializers",
        "keras.layers",
        "keras.losses",
        "keras.metrics",
        "keras.models",
        "keras.optimizers",
        "keras.optimizers.schedules",
        "keras.random",
        "keras.regularizers",
        "keras.src.models.functional",
        "keras.src.models.sequential",
        "keras.src.ops.core",
        "keras.src.ops.image",
        "keras.src.ops.linalg",
        "keras.src.ops.math",
        "keras.src.ops.nn",
        "keras.src.ops.numpy",
    }
)
"""Where the classes are; their names begin with a capital, those of functions do not."""

REFUSED = frozenset({"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
"""Layers that run code, or a model of another kind, that the file brings along."""

VALUES = frozenset({"__keras_tensor__", "__tensor__", "__numpy__", "__tuple__", "__bytes__", "__ellipsis__"})
"""What stands for a value, not for an object."""

FILES = ("vocabulary", "idf_weights")
"""Arguments of layers that are values, or the path of a file that the layer would read."""

DAMAGED = (
    EOFError,
    KeyError,
    OSError,
    RuntimeError,  # encrypted, compressed in another way, or nested too deeply
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading an archive and its configuration raises."""


def check_keras_archive(file: Path) -> None:
    """Let a `.keras` file pass if all that loading it calls are layers of Keras and their parts.

    Raises:
        ModelError: It is none, or damaged, or not that; names what is wrong.
    """
    refuse_pickle(file)
    with file.open("rb") as stream:
        head = stream.read(len(HDF5))
    if head == HDF5:
        raise ModelError(
            f"{file}: is a legacy HDF5 file of Keras, which can carry code; it is never loaded",
            hint='save the model as "….keras", or export it with model.export(folder)',
        )
    try:
        with zipfile.ZipFile(file) as archive:
            _check_members(file, archive)
            config = json.loads(archive.read(CONFIG))
    except DAMAGED as error:
        raise ModelError(f"{file}: is no .keras file, or a damaged one: {error}") from error
    for problem in _problems(config):
        raise ModelError(
            f"{file}: {problem}",
            hint="build it of Keras's own layers, or export it with model.export(folder)",
        )


def _check_members(file: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    if len(names) > MOST_MEMBERS or len(set(names)) != len(names):
        raise ModelError(
            f"{file}: has {len(names):,} members, {len(names) - len(set(names)):,} of them twice"
        )
    for member in members:
        problem = _member_problem(member)
        if problem:
            raise ModelError(f"{file}: {member.filename!r} {problem}")


def _member_problem(member: zipfile.ZipInfo) -> str | None:
    path = PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
        return "leads out of the archive"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a link"
    if not any(fnmatch.fnmatchcase(member.filename, pattern) for pattern in MEMBERS):
        return "does not belong into a .keras file"
    if member.file_size > (1 << 20) + MOST_EXPANSION * member.compress_size:
        return f"expands to {member.file_size:,} bytes, more than {MOST_EXPANSION} times its size"
    if member.filename == CONFIG and member.file_size > LARGEST_CONFIG_BYTES:
        return f"has {member.file_size:,} bytes, {LARGEST_CONFIG_BYTES:,} are the most"
    return None


def _problems(config: Any) -> Iterator[str]:
    """What may not be loaded; how the model was trained is not loaded at all."""
    if not isinstance(config, dict) or "class_name" not in config:
        yield f"{CONFIG} declares no model"
        return
    pending: list[Any] = [{key: value for key, value in config.items() if key != "compile_config"}]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield from _object_problems(value)
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def _object_problems(value: Mapping[str, Any]) -> Iterator[str]:
    for key in FILES:
        if isinstance(value.get(key), str):
            yield f"{key!r} is a file that loading would read: {value[key]!r}"
    if "class_name" not in value:
        return
    name, module, registered = (value.get(key) for key in ("class_name", "module", "registered_name"))
    if not isinstance(name, str) or not isinstance(module, str | None):
        yield f"names {name!r} of {module!r}, which are no names"
    elif name in VALUES:
        return
    elif name in REFUSED:
        yield f"the layer {name!r} runs what the file brings along; it is never loaded"
    elif module not in MODULES or not name[:1].isupper():
        yield f"names {name!r} of {module!r}, which is no layer of Keras"
    elif registered not in (None, name):
        yield f"needs the custom class {registered!r}"
