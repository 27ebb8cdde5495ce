"""The keys of a spec, as the tables of the pages write them: key → (type, default)."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from embedmill.spec import EncoderInputs
from embedmill.spec.pipeline import Name, Section

PATTERN = get_args(Name)[1].metadata[0].pattern
WORDS = {str: "text", int: "integer", float: "number", bool: "boolean", EncoderInputs: "inputs"}
REQUIRED = object()


def documented(rows: list[list[str]]) -> dict[str, tuple[str, Any]]:
    """Key → (type, default) of table rows: key, type, default, meaning."""
    assert all(meaning for *_, meaning in rows), "a key without a meaning"
    return {key.strip("`"): (kind.replace("`", ""), default_of(cell)) for key, kind, cell, _ in rows}


def default_of(cell: str) -> Any:
    match cell:
        case "required":
            return REQUIRED
        case "":
            return ""
        case "none":
            return None
        case _ if re.fullmatch(r"`?\d+/\d+`?", cell):
            return float(Fraction(cell.strip("`")))
    return yaml.safe_load(cell.strip("`"))


def declared(model: type[BaseModel], prefix: str = "") -> dict[str, tuple[str, Any]]:
    """The same of a model; those of a section follow it."""
    found: dict[str, tuple[str, Any]] = {}
    for name, field in model.model_fields.items():
        section = section_of(field.annotation)
        found[prefix + name] = (type_words(field), "" if is_default_section(field) else default(field))
        if section is not None:
            found |= declared(section, f"{prefix}{name}.")
    return found


def section_of(annotation: Any) -> type[Section] | None:
    kind = not_none(annotation)
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def is_section(kind: Any) -> bool:
    """Whether it is a section, or one of several that are told apart by their `kind`."""
    if get_origin(kind) is Annotated:
        return is_section(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return all(map(is_section, get_args(kind)))
    return section_of(kind) is not None


def is_default_section(field: FieldInfo) -> bool:
    return section_of(field.annotation) is not None and isinstance(field.default, Section)


def default(field: FieldInfo) -> Any:
    if field.is_required():
        return REQUIRED
    found = field.get_default(call_default_factory=True, validated_data={})
    return list(found) if isinstance(found, tuple) else found


def type_words(field: FieldInfo) -> str:
    kind = not_none(field.annotation)
    if any(getattr(each, "pattern", None) == PATTERN for each in field.metadata):
        return "name"
    if section_of(kind) is not None:
        return "section"
    return in_words(kind) + bounds(field)


def in_words(kind: Any) -> str:
    *others, last = choices(kind)
    return f"{', '.join(others)} or {last}" if others else last


def choices(kind: Any) -> list[str]:
    match get_origin(kind):
        case origin if origin is Literal:
            return list(map(str, get_args(kind)))
        case origin if origin in (Union, types.UnionType):
            return [word for each in get_args(kind) for word in choices(each)]
        case origin if origin is Annotated:
            return choices(get_args(kind)[0])
        case origin if origin is tuple:
            return [tuple_words(get_args(kind))]
        case origin if origin is dict:
            key, value = get_args(kind)
            return [f"{'section' if is_section(value) else in_words(value)} by {in_words(key)}"]
    return [WORDS[kind]]


def tuple_words(kinds: tuple[Any, ...]) -> str:
    if kinds[-1] is Ellipsis:
        return f"list of {'sections' if is_section(kinds[0]) else in_words(kinds[0])}"
    return f"{len(kinds)} {in_words(kinds[0])}s"


def not_none(annotation: Any) -> Any:
    """What may be there: `int` of `int | None`, and a choice without None as it is."""
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = tuple(each for each in get_args(annotation) if each is not type(None))
        return kinds[0] if len(kinds) == 1 else Union[kinds]  # noqa: UP007 - made of values
    return annotation


def bounds(field: FieldInfo) -> str:
    low = next((each.ge for each in limits(field) if hasattr(each, "ge")), None)
    high = next((each.le for each in limits(field) if hasattr(each, "le")), None)
    if low is None:
        return ""
    return f" ≥ {low:.12g}" if high is None else f" {low:.12g} to {high:.12g}"


def limits(field: FieldInfo) -> Iterator[Any]:
    for each in field.metadata:
        yield from getattr(each, "metadata", None) or [each]


def differences(page: Mapping[str, Any], code: Mapping[str, Any]) -> dict[str, str]:
    """What differs between a page and the code, in words; nothing is lost by both lacking a key."""
    found = {key: "is not in the code" for key in page if key not in code}
    found |= {key: "is not in the page" for key in code if key not in page}
    both = {key for key in page if key in code and page[key] != code[key]}
    return found | {key: f"the page says {page[key]}, the code {code[key]}" for key in both}
