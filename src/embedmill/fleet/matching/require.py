"""NVIDIA_REQUIRE_…: what an image says of hosts, in the language of the NVIDIA container toolkit.

`cuda>=12.4 brand=tesla,driver>=535,driver<536` has two alternatives (spaces are OR); the second has three
conditions (commas are AND). All variables must hold; NVIDIA_DISABLE_REQUIRE turns them off. Nobody but that
toolkit asks them, and a container may be started without it.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedmill.errors import SpecError
from embedmill.fleet.matching.steps import Step
from embedmill.fleet.matching.versions import parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX, DISABLE = "NVIDIA_REQUIRE_", "NVIDIA_DISABLE_REQUIRE"
TRUE = frozenset({"1", "t", "true"})
_CONDITION = re.compile(r"^(?P<key>[A-Za-z]+)(?P<operator>[<>=!]+)(?P<value>[^<>=!]+)$")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_VERSIONS = ("cuda", "driver", "arch")


@dataclass(frozen=True)
class Required:
    """What a host has, as conditions name it; None was not learned, and fulfils no condition."""

    cuda: str | None
    driver: str | None
    arch: str | None
    brand: str | None


@dataclass(frozen=True)
class Condition:
    """Such as `driver>=535`."""

    key: str
    comparison: str
    value: str

    def holds(self, host: Required) -> bool:
        """Whether it is so on a host."""
        compare = _COMPARISONS[self.comparison]
        found: str | None = getattr(host, self.key)
        if found is None:
            return False
        if self.key in _VERSIONS:
            return compare(parsed(found), parsed(self.value))
        return compare(plain_brand(found), plain_brand(self.value))


def plain_brand(brand: str) -> str:
    """`GeForce RTX` as conditions write it: geforcertx."""
    return re.sub(r"[\s_-]", "", brand).lower()


def alternatives(expression: str, where: str) -> tuple[tuple[Condition, ...], ...]:
    """Any of these, each all of its conditions; empty where nothing is required.

    Raises:
        SpecError: It is no such expression; names the condition.
    """
    return tuple(
        tuple(_condition(part, where) for part in alternative.split(",") if part)
        for alternative in expression.split()
        if alternative.strip(",")
    )


def _condition(text: str, where: str) -> Condition:
    found = _CONDITION.match(text)
    wrong = f"{where}: {text!r} is no condition"
    if found is None:
        raise SpecError(wrong, hint="expected such as cuda>=12.4; spaces are OR, commas are AND")
    key, comparison, value = found["key"].lower(), found["operator"], found["value"]
    if key not in (*_VERSIONS, "brand"):
        raise SpecError(wrong, hint=f"{key!r} is none of cuda, driver, arch, brand")
    allowed = tuple(_COMPARISONS) if key in _VERSIONS else ("=", "!=")
    if comparison not in allowed:
        raise SpecError(wrong, hint=f"{key} may be compared by {', '.join(allowed)}")
    if key in _VERSIONS and not re.fullmatch(r"\d+(\.\d+)*", value):
        raise SpecError(wrong, hint=f"{value!r} is not a version")
    return Condition(key, comparison, value)


def required(variables: Mapping[str, str], host: Required, where: str) -> Step:
    """Whether a host is what an image's variables require.

    Raises:
        SpecError: A variable is none of theirs, or its value no such expression.
    """
    unmet = [
        f"{name} is not met: {_shortened(value)}"
        for name, value in variables.items()
        if name != DISABLE and not _met(name, value, host, where)
    ]
    if not unmet:
        return Step(True, "what its variables require is met" if variables else "it requires nothing more")
    told = {"cuda": host.cuda, "driver": host.driver, "arch": host.arch, "brand": host.brand}
    has = ", ".join(f"{key} {value or 'unknown'}" for key, value in told.items())
    said = f"{'; '.join(unmet)}; the host has {has}"
    if variables.get(DISABLE, "").lower() in TRUE:
        return Step(True, f"{said}; {DISABLE} is set", f"{said}; allowed by {DISABLE}")
    return Step(False, said)


def _met(name: str, value: str, host: Required, where: str) -> bool:
    if not name.startswith(PREFIX):
        raise SpecError(f"{where}: require: {name} is none of {PREFIX}… and {DISABLE}")
    any_of = alternatives(value, f"{where}: require: {name}")
    return not any_of or any(all(each.holds(host) for each in all_of) for all_of in any_of)


def _shortened(expression: str) -> str:
    """The first alternative; the others tell of branches of drivers."""
    first, *others = expression.split()
    return first if not others else f"{first}, or any of {len(others)} more"
