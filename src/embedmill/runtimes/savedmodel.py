"""What a SavedModel may do, checked before TensorFlow reads a byte of it.

A SavedModel is a program: its operations can write files and open connections, and TensorFlow is no sandbox,
as its SECURITY.md says. So every operation of every graph must be one that only computes, whether something
calls it or not. Two exceptions are what TensorFlow itself writes into models: functions that save and restore
checkpoints, which nothing but the saver may call, and tables that are filled from a file, which must be an
asset of the model.
"""

from __future__ import annotations

import mmap
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from embedmill.errors import ModelError
from embedmill.runtimes.formats import confined
from embedmill.runtimes.savedmodel_graph import Node, SavedGraph, read_graph
from embedmill.runtimes.savedmodel_ops import ALLOWED, CALLS, SAVER, TABLE_FILE

GRAPH_FILE = "saved_model.pb"
OTHER_GRAPH_FILES = ("saved_model.cpb", "saved_model.pbtxt")
"""TensorFlow, or a server, would read them beside `saved_model.pb` or instead of it."""
LARGEST_GRAPH_BYTES = 2**31 - 1
"""Protobuf's own limit."""
MOST_FILES = 10_000


def check_saved_model(folder: Path, *, allow_ops: Collection[str] = ()) -> None:
    """Let a SavedModel pass unless it could do more than compute.

    Args:
        folder: The SavedModel.
        allow_ops: Operations that somebody vouches for, beside those that only compute.

    Raises:
        ModelError: It is damaged, its files lie elsewhere, or an operation is not allowed; says which, and
            where it is.
    """
    _check_files(folder)
    graph = _read(folder)
    for problem in _problems(graph, frozenset(allow_ops)):
        raise ModelError(
            f"{folder}: {problem}",
            hint="export only what serving needs; if you trust its author, see allow_ops in docs/runtimes.md",
        )
    _check_assets(folder, graph)


def _check_files(folder: Path) -> None:
    if not folder.is_dir() or not (folder / GRAPH_FILE).is_file():
        raise ModelError(f"{folder}: is no SavedModel: it has no file {GRAPH_FILE}")
    root, count = folder.resolve(), 0
    for here, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path, count = Path(here) / name, count + 1
            if not path.resolve().is_relative_to(root):
                link = path.relative_to(folder).as_posix()
                raise ModelError(
                    f"{folder}: {link!r} is a link that leads out of the folder",
                    hint="a model package holds all its files itself",
                )
        if count > MOST_FILES:
            raise ModelError(f"{folder}: has more than {MOST_FILES:,} files")
    for name in OTHER_GRAPH_FILES:
        if os.path.lexists(folder / name):
            raise ModelError(f"{folder}: has {name} beside {GRAPH_FILE}, a second graph", hint="remove it")


def _read(folder: Path) -> SavedGraph:
    file = folder / GRAPH_FILE
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if len(data) > LARGEST_GRAPH_BYTES:
                raise ModelError(f"{folder}: {GRAPH_FILE} has {len(data):,} bytes, 2 GiB are the most")
            return read_graph(data)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {str(error.strerror).lower()}") from error
    except ValueError as error:  # an empty file cannot be mapped: ValueError
        raise ModelError(f"{file}: is no SavedModel, or a damaged one: {error}") from error


def _check_assets(folder: Path, graph: SavedGraph) -> None:
    for name in graph.asset_files:
        confined(folder / "assets", name, said_by=f"{folder}: asset")
    for indices in graph.assets.values():
        if any(index >= len(graph.asset_files) for index in indices):
            raise ModelError(f"{folder}: an asset is number {max(indices)} of {len(graph.asset_files)} files")


def _problems(graph: SavedGraph, allowed: Collection[str]) -> Iterator[str]:
    left = [(node, op) for node in graph.nodes for op in node.ops if op not in ALLOWED and op not in allowed]
    for node, op in left:
        if op not in SAVER | TABLE_FILE:
            yield f"operation {op!r} is not allowed: {node.place}"
    calls = _Calls(graph)
    for node, op in left:
        if op in SAVER and node.graph not in calls.saver_functions:
            yield f"operation {op!r} is for the saver alone, and others can ask for it: {node.place}"
        if op in TABLE_FILE and not _fills_from_asset(node, calls):
            yield f"operation {op!r} reads a file that is no asset of the model: {node.place}"


def _fills_from_asset(node: Node, calls: _Calls) -> bool:
    inputs = node.data_inputs
    return len(inputs) == 2 and calls.is_asset(node.graph, inputs[1])


@dataclass(frozen=True)
class _Calls:
    """Who calls whom with what."""

    graph: SavedGraph

    @cached_property
    def callers(self) -> Mapping[str, list[Node]]:
        """Nodes that name a function, by its name."""
        found: dict[str, list[Node]] = defaultdict(list)
        for node in self.graph.nodes:
            for name in node.functions:
                found[name].append(node)
        return found

    @cached_property
    def by_name(self) -> Mapping[tuple[str, str], Node]:
        """Nodes by graph and name."""
        return {(node.graph, node.name): node for node in self.graph.nodes}

    @cached_property
    def saver_functions(self) -> frozenset[str]:
        """Functions that the saver calls, and nothing else can.

        `api_implements` is refused: by it the optimizer may put a function in the place of another.
        """
        found = {
            name
            for node in self.graph.nodes
            if not node.graph and node.name in self.graph.saver_nodes
            for name in node.functions
        }
        reached = self._closure(found)
        while True:  # who is called from elsewhere is out, and takes with it what it calls
            stays = frozenset(name for name in reached if self._only_for_saver(name, reached))
            if stays == reached:
                return stays
            reached = stays

    def _closure(self, names: set[str]) -> frozenset[str]:
        calls: dict[str, set[str]] = defaultdict(set)
        for node in self.graph.nodes:
            calls[node.graph].update(node.functions)
        found, pending = set(names), list(names)
        while pending:
            new = calls[pending.pop()] - found
            found |= new
            pending += new
        return frozenset(found)

    def _only_for_saver(self, name: str, functions: Collection[str]) -> bool:
        function = self.graph.functions.get(name)
        if function is None or name in self.graph.exposed or name in self.graph.gradients:
            return False
        by_saver = all(
            node.graph in functions or (not node.graph and node.name in self.graph.saver_nodes)
            for node in self.callers[name]
        )
        return by_saver and "api_implements" not in function.attributes

    def is_asset(self, graph: str, tensor: str) -> bool:
        """Whether a tensor of a graph can be nothing but the path of an asset, whoever calls."""
        pending, seen = [(graph, tensor)], set[tuple[str, str]]()
        while pending:
            at = pending.pop()
            if at in seen:
                continue
            seen.add(at)
            origins = self._origins(*at)
            if origins is None:
                return False
            pending += origins
        return True

    def _origins(self, graph: str, tensor: str) -> list[tuple[str, str]] | None:
        """Where a tensor comes from: nothing more to ask of an asset, None of anything else."""
        node = self.by_name.get((graph, tensor.split(":")[0]))
        if node is not None and node.ops == ("Identity",) and len(node.data_inputs) == 1:
            return [(graph, node.data_inputs[0])]
        if not graph:
            named = tensor if ":" in tensor else f"{tensor}:0"
            return [] if named in self.graph.asset_tensors else None
        function = self.graph.functions[graph]
        if node is not None or function.arguments.count(tensor) != 1:
            return None
        place = function.arguments.index(tensor)
        if graph in self.graph.exposed and not self._bound_to_asset(graph, place):
            return None
        return self._passed(graph, place)

    def _bound_to_asset(self, function: str, place: int) -> bool:
        """The last arguments of a function that a program calls are objects of the model."""
        bound = self.graph.concrete_functions.get(function, ())
        at = place - (len(self.graph.functions[function].arguments) - len(bound))
        return 0 <= at < len(bound) and bound[at] in self.graph.assets

    def _passed(self, function: str, place: int) -> list[tuple[str, str]] | None:
        """What callers pass as an argument; None where one does not say so plainly.

        Callers in the main graph do not count: TensorFlow 2 runs what the model's objects name, and no node
        of that graph.
        """
        found = []
        for node in (caller for caller in self.callers[function] if caller.graph):
            plain = node.ops[0] in CALLS and len(node.ops) == 1 and len(node.functions) == 1
            if not plain or place >= len(node.data_inputs) or function in self.graph.gradients:
                return None
            found.append((node.graph, node.data_inputs[place]))
        return found
