"""Opens the archive of a `torch.export` program (.pt2) so that torch never sees a byte that can run code.

torch's own loader unpickles: example inputs always, weights and constants where the archive says so
(torch/export/pt2_archive/_package.py). So an archive is read here, without torch, and written anew: graph,
sizes and raw bytes of tensors, all checked, and nothing else.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from embedmill.errors import ModelError
from embedmill.runtimes.pt2_graph import Program, read_program

GRAPH = "models/model.json"
TENSORS: Mapping[str, str] = {
    "data/weights/model_weights_config.json": r"weight_\d{1,9}",
    "data/constants/model_constants_config.json": r"tensor_\d{1,9}",
}
"""Files that say what each tensor is, and how the files with the tensors' bytes beside them are called."""
LEFT_BEHIND = re.compile(
    r"archive_format|archive_version|byteorder|\.format_version|\.storage_alignment|\.data/\w+"
    r"|data/sample_inputs/model\.pt|extra/[\w.-]+",
    re.ASCII,
)
"""Members that need not be read. The sample inputs are a pickle."""
WRITTEN = {"archive_format": "pt2", "archive_version": "0", "byteorder": "little", ".data/version": "6"}
LARGEST_JSON = 256 << 20
ITEM_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 12: 1, 13: 2}
"""Bytes of an item, by the schema's ScalarType."""
STRIDED = 7


class _Member(NamedTuple):
    """A file of the archive, below its one folder."""

    info: zipfile.ZipInfo
    name: str


@contextmanager
def checked_program(file: Path, *, device: tuple[str, int | None]) -> Iterator[tuple[Program, Path]]:
    """A program that can only compute, and a temporary archive with it that torch may load.

    Args:
        file: What `torch.export.save` wrote.
        device: Where all tensors are to be.

    Raises:
        ModelError: The archive is damaged, is of another kind, or holds what can do more than compute.
    """
    try:
        with (
            zipfile.ZipFile(file) as archive,
            tempfile.TemporaryDirectory(prefix="embedmill-pt2-") as scratch,
        ):
            members = _members(archive, file)
            program = read_program(_read(archive, members, GRAPH, file), device=device, said_by=str(file))
            clean = Path(scratch) / "program.pt2"
            _write(archive, members, program, clean, file=file, device=device)
            yield program, clean
    except zipfile.BadZipFile as error:
        raise ModelError(f"{file}: is no torch.export program, or a damaged one: {error}") from error
    except (OSError, EOFError, NotImplementedError) as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error


def _members(archive: zipfile.ZipFile, file: Path) -> dict[str, _Member]:
    """All members by their names, each of a known name, stored plainly, once, and none over another."""
    found: dict[str, _Member] = {}
    for info in archive.infolist():
        folder, _, name = info.filename.partition("/")
        if name.endswith(".pkl"):
            raise ModelError(
                f"{file}: is a pickle, and loading one can run any code; it is never loaded",
                hint="save the program with torch.export.save, not with torch.save or torch.jit.save",
            )
        if not _is_known(folder, name) or name in found:
            raise ModelError(f"{file}: the archive has an unexpected member {info.filename[:80]!r}")
        if (
            info.compress_type != zipfile.ZIP_STORED
            or info.compress_size != info.file_size
            or info.flag_bits & 1
        ):
            raise ModelError(
                f"{file}: the member {name!r} is compressed or encrypted; torch.export.save does neither"
            )
        found[name] = _Member(info, name)
    if sum(member.info.file_size for member in found.values()) > file.stat().st_size:
        raise ModelError(f"{file}: members of the archive lie over each other")
    return found


def _is_known(folder: str, name: str) -> bool:
    if not re.fullmatch(r"[\w.-]{1,255}", folder) or folder in (".", ".."):
        return False
    if name == GRAPH or name in TENSORS or LEFT_BEHIND.fullmatch(name):
        return True
    above, _, last = name.rpartition("/")
    return any(
        above == config.rpartition("/")[0] and re.fullmatch(own, last) for config, own in TENSORS.items()
    )


def _read(archive: zipfile.ZipFile, members: Mapping[str, _Member], name: str, file: Path) -> bytes:
    if name not in members:
        raise ModelError(f"{file}: is no torch.export program: it has no {name}")
    if members[name].info.file_size > LARGEST_JSON:
        raise ModelError(f"{file}: {name} is larger than {LARGEST_JSON >> 20} MiB")
    return archive.read(members[name].info)


def _write(
    archive: zipfile.ZipFile,
    members: Mapping[str, _Member],
    program: Program,
    clean: Path,
    *,
    file: Path,
    device: tuple[str, int | None],
) -> None:
    """The archive anew, of what was checked."""
    with zipfile.ZipFile(clean, "w") as target:
        for name, text in WRITTEN.items():
            target.writestr(_entry(name), text)
        target.writestr(_entry("data/sample_inputs/model.pt"), b"")
        target.writestr(_entry(GRAPH), json.dumps(program.document))
        for config, pattern in TENSORS.items():
            folder = config.rpartition("/")[0]
            tensors = _tensors(_read(archive, members, config, file), members, folder, pattern, file, device)
            target.writestr(_entry(config), json.dumps({"config": tensors}))
            for name in sorted({f"{folder}/{tensor['path_name']}" for tensor in tensors.values()}):
                _copy(archive, members[name].info, target, _entry(name))


def _entry(name: str) -> zipfile.ZipInfo:
    """A member without the time of day: equal programs are equal bytes."""
    return zipfile.ZipInfo(f"program/{name}")


def _copy(
    archive: zipfile.ZipFile, source: zipfile.ZipInfo, target: zipfile.ZipFile, info: zipfile.ZipInfo
) -> None:
    """Bytes of a tensor; zipfile compares their checksum."""
    info.file_size = source.file_size
    with archive.open(source) as reading, target.open(info, "w") as writing:
        shutil.copyfileobj(reading, writing, 1 << 20)


def _tensors(
    config: bytes,
    members: Mapping[str, _Member],
    folder: str,
    pattern: str,
    file: Path,
    device: tuple[str, int | None],
) -> dict[str, Any]:
    """What each tensor is, by its name, if it is plain numbers in a file of the archive."""
    try:
        found = json.loads(config)["config"]
        return {
            str(name): _tensor(tensor, members, folder, pattern, device) for name, tensor in found.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{file}: {folder} does not say what its tensors are: {error}") from error
    except _NoTensor as error:
        raise ModelError(
            f"{file}: {folder}: {error}",
            hint="weights of dense numbers are loaded, saved by torch.export.save",
        ) from error


class _NoTensor(Exception):
    """Why a tensor is not loaded."""


def _tensor(
    tensor: Mapping[str, Any],
    members: Mapping[str, _Member],
    folder: str,
    pattern: str,
    device: tuple[str, int | None],
) -> dict[str, Any]:
    name = str(tensor["path_name"])
    if tensor["use_pickle"] is not False:
        raise _NoTensor(f"{name[:80]} is a pickle, and loading one can run any code")
    if not re.fullmatch(pattern, name) or f"{folder}/{name}" not in members:
        raise _NoTensor(f"{name[:80]!r} is no tensor of the archive")
    meta = tensor["tensor_meta"]
    sizes, strides = ([_size(each) for each in meta[key]] for key in ("sizes", "strides"))
    first, item = _size(meta["storage_offset"]), ITEM_SIZES.get(meta["dtype"])
    if item is None or meta["layout"] != STRIDED or len(sizes) != len(strides):
        raise _NoTensor(f"{name} is of a type or layout that is not loaded")
    last = first + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    stored = members[f"{folder}/{name}"].info.file_size
    empty = math.prod(sizes) == 0
    if not empty and ((last + 1) * item > stored or math.prod(sizes) * item > stored):
        raise _NoTensor(f"{name} has {stored} bytes, fewer than its sizes {sizes} need")
    return {
        "path_name": name,
        "is_param": bool(tensor["is_param"]),
        "use_pickle": False,
        "tensor_meta": {
            "dtype": meta["dtype"],
            "sizes": [{"as_int": size} for size in sizes],
            "requires_grad": False,
            "device": {"type": device[0], "index": device[1]},
            "strides": [{"as_int": stride} for stride in strides],
            "storage_offset": {"as_int": first},
            "layout": STRIDED,
        },
    }


def _size(written: Mapping[str, Any]) -> int:
    size = written["as_int"]
    if not isinstance(size, int) or not 0 <= size < 1 << 48:
        raise _NoTensor(f"a size or stride is {str(size)[:40]}")
    return size
