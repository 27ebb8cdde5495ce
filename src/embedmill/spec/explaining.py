"""What a spec file's error says: where it is, what was found, what is allowed, in words of the file.

Pydantic's own words are of types and constraints; `_expected` has a phrase for each kind of error that people
meet. Where a value may be of several kinds (`auto` or a number), pydantic tells one error for each: they
become one sentence.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from embedmill.spec.section import guess, located

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    Location = tuple[int | str, ...]

IN_A_KEY = "[key]"
"""What pydantic adds to the location of a key that is wrong itself."""
KINDS = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a section with keys of its own",
    "model_type": "a section with keys of its own",
    "model_attributes_type": "a section with keys of its own",
}
LIMITS = {
    "greater_than": ("gt", "a number above"),
    "greater_than_equal": ("ge", "a number that is at least"),
    "less_than": ("lt", "a number below"),
    "less_than_equal": ("le", "a number that is at most"),
}
PATTERNS = {
    r"^[a-z0-9][a-z0-9._-]{0,62}$": "a name of small letters, digits, `.`, `_` and `-`, at most 63",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$": "a name of letters, digits, `.`, `_` and `-`, at most 63",
    r"^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$": "a name of small letters, digits and `-`, at most 24",
    r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$": "a name of small letters, digits and `-`, at most 63",
    r"^/[^\s:,]*$": "a whole path such as /srv/mill, without spaces, `:` and `,`",
    r"^/[^\s:]+$": "a whole path such as /srv/mill, without spaces and `:`",
    r"^[^-\s][^\s]*$": "what ssh connects to, such as me@10.0.0.7: no spaces, and no `-` in front",
    r"^(ray://)?([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}$": "HOST:PORT or ray://HOST:PORT, such as "
    "10.0.0.7:6379",
    r"^\d{1,2}\.\d{1,2}$": 'a version in quotes such as "12.2"',
    r"^\d{1,2}\.\d$": 'a version in quotes such as "7.5"',
    r"^([01][0-9]|2[0-3]):[0-5][0-9]$": 'a time of day in quotes such as "06:00"',
    r"^arn:\S+$": "a role such as arn:aws:iam::123456789012:role/NAME",
    r"^\S+( \S+){4}$": 'five fields of cron in quotes such as "0 2 * * *"',
}
"""The patterns of specs that are met most often, in words; others are shown as they are."""
DIGEST = "NAME@sha256: with 64 digits of 0-9 and a-f"


def explained(kind: type[BaseModel], errors: Sequence[ErrorDetails]) -> tuple[Location, str]:
    """Where the error to tell first is in the file, and its sentence; how many others there are is in it."""
    schema = kind.model_json_schema()
    groups: dict[Location, list[ErrorDetails]] = {}
    for error in _without_echoes(errors):
        groups.setdefault(_value_at(schema, error["loc"]), []).append(error)
    told = [_told(schema, group) for group in groups.values()]
    first = min(told, key=lambda each: not each[2])  # a misspelt key is missing too
    more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
    return first[0], f"{first[1]}{more}"


def _without_echoes(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """A list whose entries are all wrong counts as too short, too: that is no error of its own."""
    wrong = [error["loc"] for error in errors]
    return [
        error
        for error in errors
        if error["type"] != "too_short"
        or not any(len(loc) > len(error["loc"]) and loc[: len(error["loc"])] == error["loc"] for loc in wrong)
    ]


def _told(schema: dict[str, Any], group: Sequence[ErrorDetails]) -> tuple[Location, str, bool]:
    """Of the errors of one value: where, what, and whether it is an unknown key."""
    walked = [_walk(schema, error["loc"])[0] for error in group]
    deepest = max(map(len, walked))  # of several kinds that a value may be, it is most like that one
    chosen = [error for error, location in zip(group, walked, strict=True) if len(location) == deepest]
    location = walked[group.index(chosen[0])] + located(chosen[0])
    location = tuple(part for part in location if part != IN_A_KEY)
    return location, _sentence(schema, location, chosen), chosen[0]["type"] == "extra_forbidden"


def _sentence(schema: dict[str, Any], location: Location, errors: Sequence[ErrorDetails]) -> str:
    error, field = errors[0], ".".join(map(str, location))
    match error["type"]:
        case "extra_forbidden":
            allowed = list(_walk(schema, error["loc"][:-1])[1].get("properties", {}))
            return f"unknown key `{field}`; {guess(error['loc'][-1], allowed)}allowed: {', '.join(allowed)}"
        case "missing":
            return f"`{field}` is missing"
        case "union_tag_not_found":
            return f"`{field}.kind` is missing"
        case "union_tag_invalid":
            tags = re.findall(r"'([^']*)'", error["ctx"]["expected_tags"])
            return f"`{field}.kind`: {_none_of(error['ctx']['tag'], tags)}"
        case "literal_error" if len(errors) == 1:
            return f"`{field}`: {_none_of(error['input'], _allowed(schema, error))}"
        case "too_short" if error["ctx"]["actual_length"] == 0:
            return f"`{field}` is empty; it needs at least {_entries(error['ctx']['min_length'])}"
        case "value_error":
            said = error["msg"].removeprefix("Value error, ")
            return f"`{field}`: {said}" if field else said
    expected = dict.fromkeys(map(_expected, errors))
    return f"`{field}`: found {_shown(error['input'])}; expected {' or '.join(expected)}"


def _allowed(schema: dict[str, Any], error: ErrorDetails) -> Sequence[object]:
    """The words that may stand where this one does; those of keys are not in the schema of their value."""
    words = _walk(schema, error["loc"])[1]
    if error["loc"][-1] != IN_A_KEY and ("enum" in words or "const" in words):
        return words.get("enum") or [words["const"]]
    return re.findall(r"'([^']*)'", error["ctx"]["expected"])


def _none_of(found: object, allowed: Sequence[object]) -> str:
    words = [str(each) for each in allowed]
    return f"found {_shown(found)}; {guess(found, words)}allowed: {', '.join(words)}"


def _expected(error: ErrorDetails) -> str:
    """What would have been right, as the end of a sentence."""
    what, context = error["type"], error.get("ctx", {})
    if what in KINDS:
        return KINDS[what]
    if what in LIMITS:
        limit, words = LIMITS[what]
        return f"{words} {context[limit]:g}"
    match what:
        case "literal_error":
            return str(context["expected"]).replace("'", "")
        case "string_pattern_mismatch":
            return _of_pattern(str(context["pattern"]))
        case "string_too_short":
            return "a text that is not empty"
        case "too_short":
            return f"at least {_entries(context['min_length'])}"
        case "too_long":
            return f"at most {_entries(context['max_length'])}"
    return error["msg"][:1].lower() + error["msg"][1:]


def _of_pattern(pattern: str) -> str:
    if "sha256:" in pattern:
        return DIGEST
    return PATTERNS.get(pattern, f"a text that matches {pattern}")


def _entries(count: int) -> str:
    return "one entry" if count == 1 else f"{count} entries"


def _shown(found: object) -> str:
    """A value as the file has it."""
    if found is None:
        return "nothing"
    return str(found).lower() if isinstance(found, bool) else repr(found)


def _value_at(schema: dict[str, Any], location: Location) -> Location:
    """The location up to the first value that may be of several kinds, whose errors belong together."""
    here, parts = _resolve(schema, schema), list[int | str]()
    for part in location:
        if len(_options(here)) > 1:
            break
        here, is_key = _step(schema, here, part)
        parts += [part] if is_key else []
    return tuple(parts)


def _walk(schema: dict[str, Any], location: Location) -> tuple[Location, dict[str, Any]]:
    """Where `location` is in the file, and the JSON Schema of what is there.

    Where a value may be of several kinds, pydantic puts the kind into the location; no file has it there.
    """
    here, parts = _resolve(schema, schema), list[int | str]()
    for number, part in enumerate(location):
        options = _options(here)
        if len(options) > 1:
            here = _chosen(options, part, location[number + 1 :])
            continue
        here, is_key = _step(schema, here, part)
        parts += [part] if is_key else []
    return tuple(parts), here


def _step(schema: dict[str, Any], here: Mapping[str, Any], part: int | str) -> tuple[dict[str, Any], bool]:
    """The schema below `part`, and whether the file has that; it has no kinds that pydantic told apart."""
    kinds = here.get("discriminator", {}).get("mapping", {})
    if part in kinds:
        return _resolve(schema, {"$ref": kinds[part]}), False
    if isinstance(part, int):
        below = here.get("items") or (here.get("prefixItems") or [{}])[0]
    else:
        named = here.get("patternProperties", {})  # sections by names that have a pattern
        below = here.get("properties", {}).get(part) or here.get("additionalProperties")
        below = below or next(iter(named.values()), {})
    return _resolve(schema, below if isinstance(below, dict) else {}), True


def _options(here: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [option for option in here.get("anyOf", []) if option.get("type") != "null"]


def _chosen(options: Sequence[dict[str, Any]], kind: int | str, rest: Location) -> dict[str, Any]:
    """The option that pydantic calls `kind`: lists go on with a number, words are `literal[…]`."""
    if rest and isinstance(rest[0], int):
        return next((each for each in options if "items" in each or "prefixItems" in each), {})
    if str(kind).startswith("literal["):
        return next((each for each in options if "enum" in each or "const" in each), {})
    return {}


def _resolve(schema: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    options = _options(here)
    if len(options) == 1:
        here = options[0]
    reference = here.get("$ref")
    return schema["$defs"][reference.rsplit("/", 1)[1]] if isinstance(reference, str) else here
