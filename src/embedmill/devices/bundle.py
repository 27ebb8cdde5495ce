"""A program of several modules of this package as one text, for a host that has none of them."""

from __future__ import annotations

import ast
import threading
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
PACKAGE = "embedmill.devices"
_ONE_AT_A_TIME = threading.Lock()
"""Python 3.11 cannot parse in several threads at once (cpython#106905)."""

LOADER = """\
import importlib.abc, importlib.util, sys
SOURCES = {sources!r}
class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name in SOURCES:
            return importlib.util.spec_from_loader(name, self, is_package=SOURCES[name] == "")
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(compile(SOURCES[module.__name__], module.__name__, "exec"), module.__dict__)
sys.meta_path.insert(0, Finder())
sys.argv = {arguments!r}
from {package}.{module} import main
sys.exit(main())
"""


def bundle(module: str, *arguments: str) -> str:
    """The source of a program that calls `main()` of a module here, which reads `sys.argv` and stdin."""
    with _ONE_AT_A_TIME:
        sources = _sources(module)
    return LOADER.format(sources=sources, arguments=[module, *arguments], package=PACKAGE, module=module)


@cache
def _sources(module: str) -> dict[str, str]:
    sources = {"embedmill": "", PACKAGE: ""}
    wanted = [module]
    while wanted:
        name = wanted.pop()
        whole = f"{PACKAGE}.{name}"
        if whole not in sources:
            sources[whole] = (FOLDER / f"{name}.py").read_text("utf-8")
            wanted += _siblings(sources[whole])
    return sources


def _siblings(source: str) -> list[str]:
    """Modules of this package that a source imports."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PACKAGE + "."):
            found.append(node.module[len(PACKAGE) + 1 :].split(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            found += [each.name for each in node.names]
    return found
