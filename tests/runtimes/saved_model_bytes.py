"""`saved_model.pb` written byte by byte, as TensorFlow lays it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


def varint(value: int) -> bytes:
    head = b""
    while value > 0x7F:
        head += bytes([value & 0x7F | 0x80])
        value >>= 7
    return head + bytes([value])


def message(*fields: tuple[int, int | str | bytes]) -> bytes:
    """Fields by number: integers as varints, the rest length-delimited."""
    return b"".join(map(_field, fields))


def _field(field: tuple[int, int | str | bytes]) -> bytes:
    number, content = field
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def entry(key: str, value: bytes) -> bytes:
    return message((1, key), (2, value))


def calls(function: str) -> bytes:
    """An attribute value that names a function."""
    return message((10, message((1, function))))


def node(name: str, op: str, *inputs: str, **functions: str) -> bytes:
    attributes = [(5, entry(key, calls(function))) for key, function in functions.items()]
    return message((1, name), (2, op), *((3, each) for each in inputs), *attributes)


def function(
    name: str, *nodes: bytes, arguments: Sequence[str] = (), attributes: Sequence[str] = ()
) -> bytes:
    signature = message((1, name), *((2, message((1, argument))) for argument in arguments))
    named = [(5, entry(key, message((2, b"")))) for key in attributes]
    return message((1, signature), *((3, each) for each in nodes), *named)


@dataclass(frozen=True)
class Parts:
    """A SavedModel's parts; `concrete` has the objects bound to each concrete function."""

    nodes: Sequence[bytes] = ()
    functions: Sequence[bytes] = ()
    saver: Sequence[str] = ()
    concrete: Mapping[str, Sequence[int]] = field(default_factory=dict)
    objects: Sequence[bytes] = ()
    assets: Sequence[str] = ()
    gradients: Sequence[tuple[str, str]] = ()

    def meta_graph(self) -> bytes:
        library = message(
            *((1, each) for each in self.functions),
            *((2, message((1, name), (2, gradient))) for name, gradient in self.gradients),
        )
        graph = message(*((1, each) for each in self.nodes), (2, library))
        saver = message(*zip((2, 3), self.saver, strict=False))
        files = [
            (6, message((1, message((1, f"asset_{at}:0"))), (2, name))) for at, name in enumerate(self.assets)
        ]
        bound = [
            (2, entry(name, message((2, b"".join(map(varint, objects))))))
            for name, objects in self.concrete.items()
        ]
        objects = message(*((1, each) for each in self.objects), *bound)
        return message((2, graph), (3, saver), *files, (7, objects))

    def data(self) -> bytes:
        return message((1, 1), (2, self.meta_graph()))

    def save(self, folder: Path) -> Path:
        """The folder, with assets of no contents."""
        (folder / "assets").mkdir(parents=True)
        for name in self.assets:
            if "/" not in name:
                (folder / "assets" / name).touch()
        (folder / "saved_model.pb").write_bytes(self.data())
        return folder


ASSET = message((5, b""))
"""An object that stands for the first asset file."""
SERVING = function(
    "serving", node("h", "MatMul", "x", "w"), node("y", "Relu", "h:product:0"), arguments=["x", "w"]
)
SAVE = function("save", node("s", "SaveV2", "file"), node("m", "MergeV2Checkpoints"), arguments=["file"])
RESTORE = function("restore", node("r", "RestoreV2", "file"), arguments=["file"])
SAVER_NODES = (
    node("saver_filename", "Placeholder"),
    node("call_save", "StatefulPartitionedCall", "saver_filename", f="save"),
    node("call_restore", "StatefulPartitionedCall", "saver_filename", f="restore"),
)
FILL = function(
    "fill", node("t", "InitializeTableFromTextFileV2", "table", "file"), arguments=["file", "table"]
)


def model(
    *,
    nodes: Sequence[bytes] = (),
    functions: Sequence[bytes] = (),
    saver: Sequence[str] = ("call_save:0", "call_restore"),
    concrete: Mapping[str, Sequence[int]] | None = None,
    objects: Sequence[bytes] = (),
    assets: Sequence[str] = (),
    gradients: Sequence[tuple[str, str]] = (),
) -> Parts:
    """A harmless model with a saver, and what a test adds."""
    return Parts(
        [*SAVER_NODES, node("call", "StatefulPartitionedCall", "x", f="serving"), *nodes],
        [SERVING, SAVE, RESTORE, *functions],
        saver,
        {"serving": [1], **(concrete or {})},
        [message((4, b"")), ASSET if assets else message((7, b"")), message((7, b"")), *objects],
        assets,
        gradients,
    )
