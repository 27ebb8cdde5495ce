"""Fail when a file or a function is too long to have one subject."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("src", "tests", "tools", "examples", "benchmarks")
FILE_LINES = 400
FUNCTION_LINES = 60


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    files = [file for folder in FOLDERS for file in sorted((root / folder).rglob("*.py"))]
    offenders = [f"{file.relative_to(root)}:{offence}" for file in files for offence in offences(file)]
    for offender in offenders:
        print(offender)
    if offenders:
        sys.exit(f"{len(offenders)} too long: a second subject has moved in, give it its own place")
    print(f"{len(files)} files: none over {FILE_LINES} lines, no function over {FUNCTION_LINES}")


def offences(file: Path) -> Iterator[str]:
    """`line: what is too long`, for each."""
    source = file.read_text()
    lines = source.count("\n")
    if lines > FILE_LINES:
        yield f"{FILE_LINES + 1}: the file has {lines} lines, {FILE_LINES} are allowed: split it"
    for node in ast.walk(ast.parse(source, file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{node.lineno}: {node.name} has {length} lines, {FUNCTION_LINES} are allowed: split it"


if __name__ == "__main__":
    main()
