"""Checks the symbolic sizes of a `torch.export` program, which torch evaluates as Python.

They look like `Mul(Integer(6), Symbol('s53', positive=True, integer=True))`, and become objects by
`sympy.sympify`, which ends in `eval`. So what is let through is a grammar: calls of known functions,
small integers, and symbols of a known form.
"""

from __future__ import annotations

import ast
import re

from embedmill.errors import ModelError

SYMBOL = re.compile(r"[suzf]{1,3}\d{1,9}", re.ASCII)
LONGEST = 20_000
LARGEST = 1 << 63
LARGEST_POWER = 8
FUNCTIONS = frozenset(
    [
        "Integer",
        "Float",
        "Rational",
        "Add",
        "Mul",
        "Max",
        "Min",
        "Mod",
        "PythonMod",
        "FloorDiv",
        "CleanDiv",
        "CeilDiv",
        "ModularIndexing",
        "Where",
        "CeilToInt",
        "FloorToInt",
        "TruncToInt",
        "IntTrueDiv",
        "FloatTrueDiv",
        "ToFloat",
        "Identity",
        "Equality",
        "Unequality",
        "LessThan",
        "StrictLessThan",
        "GreaterThan",
        "StrictGreaterThan",
        "Eq",
        "Ne",
        "Le",
        "Lt",
        "Ge",
        "Gt",
        "And",
        "Or",
        "Not",
    ]
)
SYMBOLS = frozenset({"Symbol", "Dummy"})
POWERS = frozenset({"Pow", "PowByNatural"})
NAMES = frozenset({"true", "false", "int_oo", "oo", "True", "False"})


def check_symbols(expression: str, *, said_by: str) -> None:
    """Let a size pass if it can only be arithmetic.

    Raises:
        ModelError: It says anything else, or something too long.
    """
    try:
        tree = ast.parse(expression, mode="eval") if len(expression) <= LONGEST else None
        fine = tree is not None and _is_arithmetic(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        fine = False
    if not fine:
        raise ModelError(
            f"{said_by}: a symbolic size is no arithmetic, and is not evaluated: {expression[:80]!r}"
        )


def _is_arithmetic(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=bool()):
            return True
        case ast.Constant(value=int() | float() as value):
            return abs(value) <= LARGEST
        case ast.Name(id=name):
            return name in NAMES or SYMBOL.fullmatch(name) is not None
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=inner):
            return _is_arithmetic(inner)
        case ast.BinOp(
            left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.FloorDiv() | ast.Mod(), right=right
        ):
            return _is_arithmetic(left) and _is_arithmetic(right)
        case ast.Compare(left=left, comparators=others):
            return all(map(_is_arithmetic, [left, *others]))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
            return _is_known_call(name, arguments, keywords)
        case _:
            return False


def _is_known_call(name: str, arguments: list[ast.expr], keywords: list[ast.keyword]) -> bool:
    if name in SYMBOLS:
        return _is_symbol(arguments, keywords)
    if keywords or name not in FUNCTIONS | POWERS:
        return False
    if name in POWERS and not (len(arguments) == 2 and _is_small(arguments[1])):
        return False
    if name == "Float":  # Float('0.5', precision=53) is written so, and a text of digits cannot be code
        return len(arguments) == 1 and isinstance(arguments[0], ast.Constant) and _is_arithmetic(arguments[0])
    return all(map(_is_arithmetic, arguments))


def _is_symbol(arguments: list[ast.expr], keywords: list[ast.keyword]) -> bool:
    assumed = all(
        k.arg is not None
        and k.arg.isidentifier()
        and isinstance(k.value, ast.Constant)
        and isinstance(k.value.value, bool)
        for k in keywords
    )
    match arguments:
        case [ast.Constant(value=str() as name)]:
            return assumed and SYMBOL.fullmatch(name) is not None
        case _:
            return False


def _is_small(exponent: ast.expr) -> bool:
    """Powers of powers would compute for ever."""
    match exponent:
        case ast.Call(func=ast.Name(id="Integer"), args=[inner]):
            return _is_small(inner)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return _is_small(inner)
        case ast.Constant(value=int() as value):
            return abs(value) <= LARGEST_POWER
        case _:
            return False


def symbol_of(expression: str) -> str | None:
    """Name of a size that is one symbol, and nothing computed."""
    found = re.match(rf"(?:Symbol\('({SYMBOL.pattern})'[^()]*\)|({SYMBOL.pattern}))\Z", expression, re.ASCII)
    return (found[1] or found[2]) if found else None
