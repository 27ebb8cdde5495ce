"""Reads the graph of a `torch.export` program without torch, and lets through only what computes.

The graph is JSON (torch/_export/serde/schema.py). torch makes Python of it: it looks operators up by path,
evaluates sizes, writes names into source code, imports what containers name. So every string of it is held to
what may stand at its place; what is not needed to compute (traces of the source, guards) is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embedmill.errors import ModelError
from embedmill.runtimes.base import TensorSpec
from embedmill.runtimes.pt2_symbols import check_symbols, symbol_of

Json = Any
NAME = re.compile(r"[A-Za-z0-9_.]{0,512}", re.ASCII)
"""Names of values and parameters: nothing that could end a name in source code, or begin a call."""
VERSION = re.compile(r"[A-Za-z0-9_.+]{0,64}", re.ASCII)
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}", re.ASCII)
TARGET = re.compile(
    r"torch\.ops\.(?:aten|prims)\.((?!__)[A-Za-z0-9_]+|__[a-z]+shift__|__(?:and|or|xor)__)\.[A-Za-z0-9][A-Za-z0-9_]*"
    r"|_operator\.(?:add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)"
    r"|torch\.(?:sym_(?:float|int|ite|max|min|not|sum))"
    r"|math\.(?:trunc|ceil|floor)",
    re.ASCII,
)
FORBIDDEN = frozenset(
    {"from_file", "save", "set_", "set_data", "set_grad_enabled", "_print", "warn", "manual_seed"}
)
"""Operators of torch that touch files, or the state of the process."""
WORDS = frozenset(
    [
        "none",
        "tanh",
        "floor",
        "trunc",
        "sum",
        "prod",
        "mean",
        "amax",
        "amin",
        "constant",
        "reflect",
        "replicate",
        "circular",
        "xy",
        "ij",
        "same",
        "valid",
        "left",
        "right",
        "linear",
        "lower",
        "higher",
        "midpoint",
        "nearest",
        "fro",
        "nuc",
    ]
)
"""Texts that operators of torch take, such as gelu's `tanh`."""
FLOATS = frozenset({"Infinity", "-Infinity", "NaN"})
REFUSED = {
    "as_graph": "graphs within the graph",
    "as_operator": "operators as values",
    "as_custom_obj": "objects of custom classes",
    "as_string_to_argument": "operators with arguments by name",
    "custom_obj": "objects of custom classes",
    "custom_obj_values": "objects of custom classes",
    "token": "effects",
    "buffer_mutation": "state that a run changes",
    "parameter_mutation": "state that a run changes",
    "user_input_mutation": "inputs that a run changes",
    "loss_output": "a loss",
    "gradient_to_parameter": "gradients",
    "gradient_to_user_input": "gradients",
}
DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    12: "bool", 13: "bfloat16",
}  # fmt: skip
"""ScalarType of the schema; bfloat16 is no dtype of numpy's, so it can only be an output."""
COPIED = ("opset_version", "range_constraints", "schema_version", "verifiers", "torch_version")
LEAF: Mapping[str, Json] = {"type": None, "context": None, "children_spec": []}
"""A tensor in torch.utils._pytree's notation."""


@dataclass(frozen=True)
class Program:
    """A graph that can only compute, and what it is fed and gives."""

    document: Mapping[str, Json]
    """The graph for torch."""
    inputs: Mapping[str, TensorSpec]
    positional: int
    """So many inputs, from the first, are given by position, the others by name."""
    outputs: Mapping[str, TensorSpec]
    longest: Mapping[str, int]
    """The largest size of a free dimension, by its name, where there is one."""


def read_program(document: bytes, *, device: tuple[str, int | None], said_by: str) -> Program:
    """Read `models/model.json` of an archive.

    Args:
        document: The file.
        device: Type and index of where every tensor is to be, wherever it was when the program was exported.
        said_by: The archive, for messages.

    Raises:
        ModelError: It is damaged, or holds anything but arithmetic of torch's own.
    """
    try:
        found = json.loads(document)
        return _Reader({"type": device[0], "index": device[1]}, said_by).program(found)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ModelError(f"{said_by}: its graph cannot be read: {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class _Reader:
    device: Mapping[str, Json]
    said_by: str

    def program(self, found: Json) -> Program:
        module = found["graph_module"]
        call = next(entry["signature"] for entry in module["module_call_graph"] if entry["fqn"] == "")
        graph, signature = self.clean(module["graph"]), self.clean(module["signature"])
        fed = [self.tensor(s["user_input"]) for s in signature["input_specs"] if "user_input" in s]
        made = [self.tensor(s["user_output"]) for s in signature["output_specs"]]
        positional, names = self.inputs(json.loads(call["in_spec"])[1], len(fed))
        returns = json.loads(call["out_spec"])[1]
        results = self.outputs(returns, made)
        names = [*self.identifiers(fed[:positional]), *names]
        root = {
            "inputs": [],
            "outputs": [],
            "in_spec": _tree(
                "builtins.tuple",
                _branch("builtins.tuple", positional),
                _branch("builtins.dict", len(names) - positional, names[positional:]),
            ),
            "out_spec": _tree(returns["type"], *[LEAF] * len(made), names=results),
            "forward_arg_names": names,
        }
        clean: dict[str, Json] = {
            "graph_module": {
                "graph": graph,
                "signature": signature,
                "module_call_graph": [{"fqn": "", "signature": root}],
                "metadata": {},
                "treespec_namedtuple_fields": {},
            },
            "guards_code": [],
            **{key: self.clean(found[key], key) for key in COPIED},
        }
        limits = clean["range_constraints"].items()
        return Program(
            document=clean,
            inputs=self.specs(names, fed, graph["tensor_values"]),
            positional=positional,
            outputs=self.specs(results, made, graph["tensor_values"]),
            longest={name: each["max_val"] for name, each in limits if isinstance(each["max_val"], int)},
        )

    def clean(self, value: Json, key: str = "") -> Json:
        """All of it without traces of the source, and with tensors where they are wanted.

        Raises:
            ModelError: A text is not what may stand there, or something can do more than compute.
        """
        match value:
            case {"type": _, "index": _} if key in ("device", "as_device"):
                return self.device
            case dict():
                for name in sorted(REFUSED.keys() & value.keys()):
                    if value[name]:
                        raise self.refused(f"has {REFUSED[name]}")
                return {
                    self.text(name): {} if name == "metadata" else self.clean(inner, name)
                    for name, inner in value.items()
                }
            case list():
                return [self.clean(inner, key) for inner in value]
            case str():
                return self.text(value, key)
            case _:
                return value

    def text(self, value: str, key: str = "") -> str:
        """A text that may stand at a key."""
        if key == "expr_str":
            check_symbols(value, said_by=self.said_by)
            return value
        if key == "target":
            return self.target(value)
        if key in ("as_string", "as_strings"):
            fits = value in WORDS
        elif key == "as_float":
            fits = value in FLOATS
        elif key == "torch_version":
            fits = VERSION.fullmatch(value) is not None
        else:
            fits = NAME.fullmatch(value) is not None
        if not fits:
            raise self.refused(f"has the text {value[:80]!r} at {key or 'a name'!r}")
        return value

    def target(self, path: str) -> str:
        """The path of an operator of torch's own that only computes."""
        operator = TARGET.fullmatch(path)
        if operator is None or operator[1] in FORBIDDEN:
            raise self.refused(
                f"calls {path[:80]!r}",
                hint="supported: torch's own operators (aten, prims) without side effects; "
                "export in eval mode, under torch.no_grad()",
            )
        return path

    def inputs(self, spec: Json, count: int) -> tuple[int, list[str]]:
        """How many arguments are given by position, and the names of the others."""
        args, kwargs = spec["children_spec"]
        positional, named = self.leaves(args, "builtins.tuple"), self.leaves(kwargs, "builtins.dict")
        if positional + named != count:
            raise self.refused(f"has {count} inputs, and {positional + named} in its signature")
        return positional, self.keys(kwargs, named)

    def outputs(self, spec: Json, made: Sequence[str]) -> list[str]:
        """Names of what is returned: keys of a dictionary, or what torch called the values."""
        kind = spec["type"]
        count = 1 if kind is None else self.leaves(spec, kind)
        if kind not in (None, "builtins.tuple", "builtins.list", "builtins.dict") or count != len(made):
            raise self.refused(
                f"returns {str(kind)[:80]}", hint="return a tensor, or a tuple or dictionary of them"
            )
        return self.keys(spec, count) if kind == "builtins.dict" else self.identifiers(made)

    def leaves(self, spec: Json, kind: str) -> int:
        """How many tensors a flat container of this kind holds."""
        flat = all(child["type"] is None and not child["children_spec"] for child in spec["children_spec"])
        if spec["type"] != kind or not flat:
            raise self.refused("takes or returns containers within containers", hint="pass tensors alone")
        return len(spec["children_spec"])

    def keys(self, spec: Json, count: int) -> list[str]:
        """Names of a dictionary's values."""
        names = json.loads(spec["context"])
        if not isinstance(names, list) or len(names) != count:
            raise self.refused(f"has the names {str(names)[:80]} for {count} values")
        return self.identifiers(names)

    def identifiers(self, names: Sequence[Json]) -> list[str]:
        """The same names, of which each can stand in Python and stands once."""
        fine = all(isinstance(name, str) and IDENTIFIER.fullmatch(name) for name in names)
        if not fine or len(set(names)) != len(names):
            raise self.refused(
                f"has the names {str(list(names))[:80]}", hint="give every input and output its own"
            )
        return list(names)

    def tensor(self, spec: Json) -> str:
        """The name of what is an argument or a result."""
        if "as_tensor" not in spec["arg"]:
            raise self.refused("takes or returns what is no tensor", hint="pass and return tensors alone")
        return str(spec["arg"]["as_tensor"]["name"])

    def specs(self, names: Sequence[str], values: Sequence[str], known: Json) -> dict[str, TensorSpec]:
        return {
            name: TensorSpec(
                name, DTYPES.get(known[value]["dtype"], "unknown"), self.shape(known[value]["sizes"])
            )
            for name, value in zip(names, values, strict=True)
        }

    def shape(self, sizes: Json) -> tuple[int | str | None, ...]:
        return tuple(s["as_int"] if "as_int" in s else symbol_of(s["as_expr"]["expr_str"]) for s in sizes)

    def refused(self, what: str, *, hint: str = "") -> ModelError:
        return ModelError(f"{self.said_by}: the program {what}, and is not loaded", hint=hint)


def _branch(kind: str | None, count: int, names: Sequence[str] = ()) -> Json:
    return _container(kind, [LEAF] * count, names)


def _container(kind: str | None, children: Sequence[Json], names: Sequence[str]) -> Json:
    """A node of torch.utils._pytree's notation, in which only dictionaries have names."""
    context = json.dumps(list(names)) if kind == "builtins.dict" else "null"
    return {"type": kind, "context": context, "children_spec": list(children)}


def _tree(kind: str | None, *children: Json, names: Sequence[str] = ()) -> str:
    """What a call takes or returns; of kind None it is one tensor."""
    return json.dumps([1, LEAF if kind is None else _container(kind, children, names)])
