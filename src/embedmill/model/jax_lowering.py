"""Exports a user's function by `jax.export`, in its own process: `python -m embedmill.model.jax_lowering`.

Its argument is a folder with `request.json` (`Request`). It leaves there the artifact, or `problem.json`
(`Problem`) and exit code 1. Importing a module runs it, so only ever ask for one that the user has named.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, TypedDict

import numpy as np

from embedmill.decoding.confinement import die_with_parent
from embedmill.errors import ModelError

REQUEST, PROBLEM, ARTIFACT = "request.json", "problem.json", "artifact.jax"
DTYPES = ("float32", "float16", "int32", "int16", "int8", "uint8", "bool")
"""What an input may be of: JAX makes 32 bits of 64, unless told otherwise."""
PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}
"""What `model.yaml` calls a precision → what JAX calls it."""
LONGEST_REASON, INTERRUPTED = 300, 130
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Argument(TypedDict):
    """An array that the function gets; of its shape a text is a free size."""

    name: str
    dtype: str
    shape: list[int | str]
    needed: bool
    """Whether the function must take it; masks of texts it may leave alone."""


class Request(TypedDict):
    """What to export, and how."""

    function: str
    arguments: list[Argument]
    longest: dict[str, int]
    """The most that free sizes may be, by name."""
    platforms: list[str]
    precision: str


class Problem(TypedDict):
    """Why there is no artifact."""

    message: str
    hint: str


def main() -> None:
    """Export, or say why not."""
    scratch = Path(sys.argv[1])
    die_with_parent()
    request: Request = json.loads((scratch / REQUEST).read_text("utf-8"))
    try:
        (scratch / ARTIFACT).write_bytes(lowered(request))
    except ModelError as error:
        problem = Problem(message=error.message, hint=error.hint)
        (scratch / PROBLEM).write_text(json.dumps(problem), "utf-8")
        sys.exit(1)
    except KeyboardInterrupt:  # the parent gets it as well, and says so
        sys.exit(INTERRUPTED)


def lowered(request: Request) -> bytes:
    """The serialized artifact of the function: it takes one dict of arrays.

    Raises:
        ModelError: The function cannot be imported, takes other inputs, or cannot be exported.
    """
    import jax
    from jax import export

    jax.config.update("jax_traceback_in_locations_limit", 0)  # no paths of this machine in the artifact
    name = request["function"]
    function, dtypes = _function(name, {each["name"] for each in request["arguments"]})
    taken = _taken(name, function, request["arguments"])
    shapes = _shapes(export, taken, request["longest"])
    structs = {
        each["name"]: jax.ShapeDtypeStruct(shape, np.dtype(dtype))
        for each, shape, dtype in zip(taken, shapes, _dtypes(name, taken, dtypes), strict=True)
    }

    def embed(feeds: dict[str, Any]) -> Any:
        return function(**feeds)

    shown = ", ".join(f"{each['name']}: {_written(structs[each['name']])}" for each in taken)
    with (
        _translated(f"{name}: cannot be exported for {shown}", hint=_HINT),
        jax.default_matmul_precision(PRECISIONS[request["precision"]]),
    ):
        exported = export.export(jax.jit(embed), platforms=request["platforms"])(structs)
        return bytes(exported.serialize())


_HINT = "it must be a function that jax.jit can trace, for any number of rows and tokens"


def _function(name: str, inputs: AbstractSet[str]) -> tuple[Callable[..., Any], Mapping[str, Any]]:
    """The function, and the types of inputs that it says itself; a factory is asked for both."""
    found = _attribute(name)
    if not callable(found):
        raise ModelError(f"{name}: is no function, but of type {type(found).__name__}")
    if not _is_factory(_parameters(name, found), inputs):
        return found, {}
    called = f"{name}: takes none of the inputs, so it was called to give the function"
    with _translated(f"{called}, and failed"):
        made = found()
    function, dtypes = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not callable(function) or not isinstance(dtypes, Mapping):
        raise ModelError(
            f"{called}, and gave one of type {type(made).__name__}",
            hint="return the function, or a pair of it and a dict of its inputs' types",
        )
    return function, dtypes


def _is_factory(parameters: Mapping[str, inspect.Parameter], inputs: AbstractSet[str]) -> bool:
    """Whether it can be called without arguments, and takes no input."""
    return all(
        parameter.kind in NAMED and parameter.default is not parameter.empty and parameter.name not in inputs
        for parameter in parameters.values()
    )


def _attribute(name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    with _translated(
        f"{name}: cannot be imported",
        hint="modules are looked for in the current folder, in PYTHONPATH and among installed packages",
    ):
        module = importlib.import_module(module_name)
    try:
        return attrgetter(attribute)(module)
    except AttributeError:
        there = ", ".join(_functions(module)) or "none"
        raise ModelError(f"{name}: the module has no {attribute!r}", hint=f"its functions: {there}") from None


def _functions(module: ModuleType) -> Iterator[str]:
    """Of the module itself, and not of what it imports."""
    for name, value in vars(module).items():
        if callable(value) and not name.startswith("_") and _home(value) == module.__name__:
            yield name


def _home(value: Any) -> str:
    return str(getattr(value, "__module__", ""))


def _taken(name: str, function: Callable[..., Any], offered: list[Argument]) -> list[Argument]:
    """Those of the offered arrays that the function has parameters for.

    Raises:
        ModelError: It lacks a needed one, or needs something else.
    """
    parameters = _parameters(name, function)
    kinds = {parameter.kind for parameter in parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        raise ModelError(
            f"{name}: takes any keywords, so that nobody can tell which arrays to give it",
            hint="name a function with a parameter for each input, which calls this one",
        )
    names = {each["name"] for each in offered}
    lacking = [each["name"] for each in offered if each["needed"] and not _is_named(parameters, each["name"])]
    unfed = [
        parameter.name
        for parameter in parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind is not parameter.VAR_POSITIONAL
        and not (parameter.name in names and parameter.kind in NAMED)
    ]
    if lacking or unfed:
        problems = [f"takes no {', '.join(lacking)} by name"] if lacking else []
        problems += [f"needs {', '.join(unfed)}, which no input of model.yaml feeds"] if unfed else []
        raise ModelError(
            f"{name}: {', and '.join(problems)}",
            hint=f"model.yaml offers: {', '.join(each['name'] for each in offered)}; "
            f"the function has: {', '.join(parameters) or 'none'}; bind weights by functools.partial",
        )
    return [each for each in offered if _is_named(parameters, each["name"])]


def _is_named(parameters: Mapping[str, inspect.Parameter], name: str) -> bool:
    return name in parameters and parameters[name].kind in NAMED


def _parameters(name: str, function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise ModelError(
            f"{name}: does not tell which parameters it has", hint="name a function of Python that calls it"
        ) from None


def _dtypes(name: str, taken: list[Argument], said: Mapping[str, Any]) -> list[str]:
    """The type of each array: what the factory says, or the usual one."""
    strange = [str(key) for key in said if key not in {each["name"] for each in taken}]
    if strange:
        raise ModelError(f"{name}: says the types of inputs that it does not take: {', '.join(strange)}")
    found = []
    for each in taken:
        try:
            dtype = np.dtype(said.get(each["name"], each["dtype"])).name
        except TypeError:
            dtype = str(said[each["name"]])
        if dtype not in DTYPES:
            raise ModelError(
                f"{name}: input {each['name']!r} cannot be of type {dtype}", hint=f"use {', '.join(DTYPES)}"
            )
        found.append(dtype)
    return found


def _shapes(export: Any, taken: list[Argument], longest: Mapping[str, int]) -> list[tuple[Any, ...]]:
    """Shapes of one scope; JAX refuses symbols that no input has."""
    names = list(dict.fromkeys(size for each in taken for size in each["shape"] if isinstance(size, str)))
    bounds = [f"{symbol} <= {most}" for symbol, most in longest.items() if symbol in names]
    symbols = dict(zip(names, export.symbolic_shape(", ".join(names), constraints=bounds), strict=True))
    return [
        tuple(symbols[size] if isinstance(size, str) else size for size in each["shape"]) for each in taken
    ]


@contextmanager
def _translated(what: str, *, hint: str = "") -> Iterator[None]:
    """Foreign errors as one line that says where in the user's code they came from."""
    try:
        yield
    except (Exception, SystemExit) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"[:LONGEST_REASON]
        raise ModelError(f"{what}: {_where(error)}{reason}", hint=hint) from error


def _where(error: BaseException) -> str:
    """The innermost line that is neither of a library nor of this file."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: "
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", sys.base_prefix, sys.prefix)) and frame.filename != __file__
    ]
    return f"{own[-1].filename}, line {own[-1].lineno}: " if own else ""


def _written(struct: Any) -> str:
    return f"{struct.dtype}[{', '.join(map(str, struct.shape))}]"


if __name__ == "__main__":
    main()
