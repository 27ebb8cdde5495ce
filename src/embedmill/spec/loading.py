"""Reads spec files: YAML with line numbers, environment overrides, errors that say what is allowed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from embedmill.errors import SpecError
from embedmill.spec.explaining import explained
from embedmill.spec.images import ImagesSpec
from embedmill.spec.model import ModelSpec
from embedmill.spec.pipeline import PipelineSpec
from embedmill.spec.runtimes import RUNTIMES, RemoteRuntime

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from embedmill.spec.fleet import FleetSpec

ModelT = TypeVar("ModelT", bound=BaseModel)
ENV_PREFIX = "EMBEDMILL_"
OTHER_SETTINGS = frozenset(
    {"EMBEDMILL_CACHE", "EMBEDMILL_CACHE_BYTES", "EMBEDMILL_DEBUG"}
    | {kind.VARIABLE for kind in RUNTIMES if issubclass(kind, RemoteRuntime)}
)
"""Environment variables with our prefix that are no part of a spec."""
INIT = "`embedmill init` writes one to start from"
MODEL = "docs/models.md says how to write one; of a sentence-transformers folder none is needed"
POINTER = "version https://git-lfs.github.com/spec/"
"""How a file begins that only says where Git LFS has the file itself."""
FLEET = "`servers: {gpu-01: {}}` is one, where `ssh gpu-01` reaches a server"


def load_pipeline_spec(path: Path, environment: Mapping[str, str] | None = None) -> PipelineSpec:
    """Read a `pipeline.yaml`; `EMBEDMILL_CATALOG__SOURCE=…` overrides `catalog.source`, and so on.

    Raises:
        SpecError: With file, line and field, what was found and what is allowed.
    """
    document, node = _read(path, INIT, inside="pipeline.yaml")
    variables: dict[tuple[str, ...], str] = {}
    for name, value in sorted((os.environ if environment is None else environment).items()):
        if name.startswith(ENV_PREFIX) and name not in OTHER_SETTINGS:
            variables[_override(document, name, value)] = name
    return _validate(PipelineSpec, document, node, path, variables)


def load_model_spec(path: Path) -> ModelSpec:
    """Read a `model.yaml`.

    Raises:
        SpecError: With file, line and field, what was found and what is allowed.
    """
    document, node = _read(path, MODEL)
    return _validate(ModelSpec, document, node, path, {})


def load_fleet_spec(path: Path) -> FleetSpec:
    """Read a `fleet.yaml`.

    Raises:
        SpecError: With file, line and field, what was found and what is allowed.
    """
    from embedmill.spec.fleet import FleetSpec  # here, for a loop starts without

    document, node = _read(path, FLEET)
    return _validate(FleetSpec, document, node, path, {})


def names_servers(path: Path) -> bool:
    """Whether a file is a fleet.yaml, and no pipeline.yaml.

    Raises:
        SpecError: It cannot be read.
    """
    document, _ = _read(path, "name a pipeline.yaml or a fleet.yaml")
    return "servers" in document


def load_images_spec(path: Path) -> ImagesSpec:
    """Read an `images.yaml`.

    Raises:
        SpecError: With file, line and field, what was found and what is allowed.
    """
    document, node = _read(path, "`embedmill images build` prints what it is to say")
    return _validate(ImagesSpec, document, node, path, {})


def load_images_of(fleet: FleetSpec, path: Path) -> ImagesSpec:
    """Read the `images.yaml` that a `fleet.yaml`, which was read from `path`, names.

    Raises:
        SpecError: It names none, or that one is wrong.
    """
    if fleet.images is None:
        raise SpecError(f"{path}: names no images", hint="add `images: images.yaml`")
    return load_images_spec(path.parent / fleet.images)


def _read(path: Path, absent: str, *, inside: str = "") -> tuple[dict[str, Any], yaml.Node]:
    """What a file says, and the nodes that know its lines. `absent`: what helps where there is no file.

    `inside`: how the file is mostly called in its folder, which may be given in its place.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file", hint=absent) from None
    except IsADirectoryError:
        meant = path / inside
        hint = f"give the file in it: {meant}" if inside and meant.is_file() else absent
        raise SpecError(f"{path}: cannot be read: is a folder", hint=hint) from None
    except (OSError, UnicodeDecodeError) as error:
        said = str(getattr(error, "strerror", None) or error).lower()
        raise SpecError(f"{path}: cannot be read: {said}") from error
    if text.startswith(POINTER):
        raise SpecError(f"{path}: is a pointer of Git LFS, and not the file itself", hint="git lfs pull")
    try:
        node, document = _parse(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise SpecError(f"{where}: not valid YAML: {problem}") from error
    if node is None or not isinstance(document, dict):
        raise SpecError(f"{path}: expected a mapping of keys to values, found {type(document).__name__}")
    _refuse_doubled(node, path)
    return document, node


def _parse(text: str) -> tuple[yaml.Node | None, Any]:
    """The nodes, which know their lines, and the values that they stand for."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        return node, loader.construct_document(node) if node is not None else None
    finally:
        loader.dispose()


def _refuse_doubled(top: yaml.Node, path: Path) -> None:
    """YAML takes the last of two equal keys, and nobody notices."""
    waiting, seen = [top], {id(top)}  # anchors may lead in circles
    while waiting:
        node = waiting.pop()
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        lines: dict[str, int] = {}
        for key, _ in pairs:
            line = key.start_mark.line + 1
            if key.value in lines:
                raise SpecError(f"{path}:{line}: `{key.value}` is in line {lines[key.value]} already")
            lines[key.value] = line
        inner = [value for _, value in pairs] if pairs else node.value
        for value in inner if not isinstance(node, yaml.ScalarNode) else ():
            if id(value) not in seen:
                seen.add(id(value))
                waiting.append(value)


def _override(document: dict[str, Any], name: str, value: str) -> tuple[str, ...]:
    """Set the key that an environment variable names, and return it; the value is read as YAML."""
    keys = name.removeprefix(ENV_PREFIX).lower().split("__")
    if keys[0] not in PipelineSpec.model_fields:
        allowed = ", ".join(f"{ENV_PREFIX}{field.upper()}" for field in PipelineSpec.model_fields)
        raise SpecError(f"environment: {name} names no key of a pipeline", hint=f"allowed: {allowed}")
    target = document
    for key in keys[:-1]:
        inner = target.setdefault(key, {})
        if not isinstance(inner, dict):
            raise SpecError(f"environment: {name}: `{key}` is not a section")
        target = inner
    try:
        target[keys[-1]] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SpecError(f"environment: {name}={value!r} is not valid YAML") from error
    return tuple(keys)


def _validate(
    kind: type[ModelT],
    document: dict[str, Any],
    node: yaml.Node,
    path: Path,
    variables: Mapping[tuple[str, ...], str],
) -> ModelT:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        location, said = explained(kind, error.errors(include_url=False))
        blamed = [name for keys, name in variables.items() if location[: len(keys)] == keys]
        where = f"environment: {blamed[0]}" if blamed else f"{path}:{_line(node, location)}"
        raise SpecError(f"{where}: {said}") from None


def _line(node: yaml.Node, location: tuple[int | str, ...]) -> int:
    """Line of the deepest part of `location` that the file has; keys that are absent have their parent's."""
    line = node.start_mark.line + 1
    for part in location:
        found: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, found = key.start_mark.line + 1, value
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = node.value[part]
            line = found.start_mark.line + 1
        if found is None:
            break
        node = found
    return line
