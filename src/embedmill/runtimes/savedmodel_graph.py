"""Reads what a SavedModel's graphs call and where its files are, without TensorFlow.

Field numbers are those of TensorFlow's saved_model.proto, meta_graph.proto, saver.proto, graph.proto,
function.proto, node_def.proto, attr_value.proto, op_def.proto and saved_object_graph.proto. Of a field that
is there twice every occurrence counts, where a parser would take one or merge them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from embedmill.runtimes.protobuf import Buffer, Message

MOST_NODES = 2_000_000
"""Of all graphs together; EfficientNet-B0 has 9,550."""

META_GRAPH = 2
GRAPH, SAVER, ASSET_FILE, OBJECT_GRAPH = 2, 3, 6, 7
SAVER_NODES = (2, 3)
"""save_tensor_name, restore_op_name."""
NODE, LIBRARY = 1, 2
LIBRARY_FUNCTION, LIBRARY_GRADIENT, REGISTERED_GRADIENT = 1, 2, 3
SIGNATURE, FUNCTION_NODE, FUNCTION_ATTR = 1, 3, 5
OBJECT, CONCRETE_FUNCTION = 1, 2
ASSET, FUNCTION_OBJECT, BARE_FUNCTION, CAPTURED_TENSOR = 5, 6, 8, 12
KINDS = frozenset({4, 5, 6, 7, 8, 9, 10, 12})
"""Of an object: it has one of these fields."""
KEY, VALUE = 1, 2
ATTR_LIST, ATTR_FUNCTION = 1, 10


@dataclass(frozen=True)
class Node:
    """A node of a graph; `graph` is the function that it is in, or `` where it is in the main graph."""

    name: str
    ops: tuple[str, ...]
    inputs: tuple[str, ...]
    functions: tuple[str, ...]
    graph: str

    @property
    def data_inputs(self) -> tuple[str, ...]:
        """Without control dependencies."""
        return tuple(name for name in self.inputs if not name.startswith("^"))

    @property
    def place(self) -> str:
        """For messages."""
        return f"node {self.name!r} of {f'function {self.graph!r}' if self.graph else 'the main graph'}"


@dataclass(frozen=True)
class Function:
    """A function of the library: names of its arguments and attributes."""

    name: str
    arguments: tuple[str, ...]
    attributes: tuple[str, ...]


@dataclass(frozen=True)
class SavedGraph:
    """All graphs of a SavedModel.

    `saver_nodes` are the main graph's that write and read checkpoints. `concrete_functions` has, for those
    that a program can call, the objects bound to their last arguments; `exposed` names all that it can call.
    `assets` has the asset file, by its place in `asset_files`, of each object that stands for one.
    """

    nodes: Sequence[Node]
    functions: Mapping[str, Function]
    gradients: Sequence[str]
    saver_nodes: frozenset[str]
    concrete_functions: Mapping[str, Sequence[int]]
    exposed: frozenset[str]
    assets: Mapping[int, Sequence[int]]
    asset_files: Sequence[str]
    asset_tensors: frozenset[str]


def read_graph(data: Buffer) -> SavedGraph:
    """The graphs of the contents of `saved_model.pb`.

    Raises:
        ValueError: They are damaged, too large, or not what TensorFlow 2 writes.
    """
    graphs = list(Message(data, 0, len(data)).messages(META_GRAPH))
    if len(graphs) != 1 or OBJECT_GRAPH not in graphs[0]:
        raise ValueError("it was not written by TensorFlow 2; export it again")
    meta = graphs[0]
    functions: dict[str, Function] = {}
    nodes: list[Node] = []
    for node in _all_nodes(meta, functions):
        nodes.append(node)
        if len(nodes) > MOST_NODES:
            raise ValueError(f"more than {MOST_NODES:,} nodes")
    libraries = [library for graph in meta.messages(GRAPH) for library in graph.messages(LIBRARY)]
    objects = list(meta.messages(OBJECT_GRAPH))
    concrete = _concrete_functions(objects)
    asset_files = list(meta.messages(ASSET_FILE))
    return SavedGraph(
        nodes=nodes,
        functions=functions,
        gradients=[name for library in libraries for name in _gradients(library)],
        saver_nodes=frozenset(
            text.split(":")[0] for saver in meta.messages(SAVER) for text in saver.texts(*SAVER_NODES) if text
        ),
        concrete_functions=concrete,
        exposed=frozenset(concrete) | frozenset(_exposed(objects)),
        assets=_assets(objects),
        asset_files=[file.text(2) for file in asset_files],
        asset_tensors=frozenset(info.text(1) for file in asset_files for info in file.messages(1)),
    )


def _all_nodes(meta: Message, functions: dict[str, Function]) -> Iterator[Node]:
    """Those of the main graph and of every function, whoever calls it; `functions` is filled on the way."""
    for graph in meta.messages(GRAPH):
        yield from (_node(message, "") for message in graph.messages(NODE))
        for library in graph.messages(LIBRARY):
            for message in library.messages(LIBRARY_FUNCTION):
                function = _function(message)
                if function.name in functions:
                    raise ValueError(f"two functions are called {function.name!r}")
                functions[function.name] = function
                yield from (_node(node, function.name) for node in message.messages(FUNCTION_NODE))


def _node(message: Message, graph: str) -> Node:
    return Node(
        name=message.text(1),
        ops=tuple(message.texts(2)) or ("",),
        inputs=tuple(message.texts(3)),
        functions=tuple(_called(message, 5)),
        graph=graph,
    )


def _called(message: Message, attributes: int) -> Iterator[str]:
    """Functions that attributes name, in lists and in attributes of functions too."""
    pending = [(message, attributes)]
    while pending:
        holder, number = pending.pop()
        for entry in holder.messages(number):
            for value in entry.messages(VALUE):
                named = list(value.messages(ATTR_FUNCTION))
                named += [each for values in value.messages(ATTR_LIST) for each in values.messages(9)]
                for function in named:
                    yield from function.texts(1)
                    pending.append((function, 2))


def _function(message: Message) -> Function:
    signatures = list(message.messages(SIGNATURE))
    names = [signature.text(1) for signature in signatures if 1 in signature]
    return Function(
        name=names[-1] if names else "",
        arguments=tuple(arg.text(1) for signature in signatures for arg in signature.messages(2)),
        attributes=tuple(entry.text(KEY) for entry in message.messages(FUNCTION_ATTR)),
    )


def _gradients(library: Message) -> Iterator[str]:
    for gradient in library.messages(LIBRARY_GRADIENT, REGISTERED_GRADIENT):
        yield from gradient.texts(1, 2)


def _concrete_functions(objects: Sequence[Message]) -> dict[str, Sequence[int]]:
    found: dict[str, Sequence[int]] = {}
    for graph in objects:
        for entry in graph.messages(CONCRETE_FUNCTION):
            name = entry.text(KEY)
            if name in found:
                raise ValueError(f"two concrete functions are called {name!r}")
            found[name] = [bound for value in entry.messages(VALUE) for bound in value.numbers(2)]
    return found


def _exposed(objects: Sequence[Message]) -> Iterator[str]:
    """Functions that objects name."""
    for graph in objects:
        for one in graph.messages(OBJECT):
            for holder in one.messages(FUNCTION_OBJECT, BARE_FUNCTION):
                yield from holder.texts(1)
            for holder in one.messages(CAPTURED_TENSOR):
                yield from holder.texts(2)


def _assets(objects: Sequence[Message]) -> dict[int, Sequence[int]]:
    """Objects that are an asset and nothing else; the first file's number, 0, is not written down."""
    found: dict[int, Sequence[int]] = {}
    number = 0
    for graph in objects:
        for one in graph.messages(OBJECT):
            if ASSET in one and not any(kind in one for kind in KINDS - {ASSET}):
                found[number] = [at for asset in one.messages(ASSET) for at in asset.numbers(1) or [0]]
            number += 1
    return found
