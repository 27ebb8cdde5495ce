"""Real texts that every machine has: docstrings of the standard library."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

MODULES = (
    "argparse",
    "asyncio",
    "calendar",
    "collections",
    "csv",
    "datetime",
    "decimal",
    "email",
    "fractions",
    "functools",
    "heapq",
    "html",
    "http.client",
    "inspect",
    "itertools",
    "json",
    "locale",
    "logging",
    "math",
    "operator",
    "os",
    "pathlib",
    "random",
    "re",
    "shutil",
    "socket",
    "statistics",
    "string",
    "subprocess",
    "tarfile",
    "textwrap",
    "threading",
    "unicodedata",
    "urllib.parse",
    "zipfile",
)


def docstrings(count: int) -> list[str]:
    """So many different docstrings, some of a few words and some of thousands, always the same ones."""
    found = dict.fromkeys(text for module in MODULES for text in _of_module(module))
    texts = list(found)
    step = len(texts) / count
    return [texts[int(at * step)] for at in range(count)]


def _of_module(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    for _, member in [("", module), *sorted(vars(module).items())]:
        if inspect.isclass(member) or inspect.isroutine(member) or inspect.ismodule(member):
            text = inspect.getdoc(member)
            if text:
                yield text
