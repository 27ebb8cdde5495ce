"""The code is what ARCHITECTURE.md, errors.py and the import rules say that it is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import embedmill.errors
from embedmill.errors import EmbedmillError

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "src" / "embedmill"

HOMES: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("runtimes/onnx.py",),
    "faiss": ("index/faiss.py",),
    "onnx": ("model/bert.py",),
    "safetensors": ("model/sentence_transformers.py",),
    "sentence_transformers": ("model/exporting.py",),
    "transformers": ("model/exporting.py",),
    "torch": ("runtimes/torch.py", "model/exporting.py"),
    "tensorflow": ("runtimes/tensorflow.py",),
    "keras": ("model/keras_child.py",),
    "h5py": ("model/keras_weights.py",),
    "jax": ("runtimes/jax*.py", "model/jax_lowering.py"),
    "openvino": ("runtimes/openvino.py",),
    "tritonclient": ("runtimes/remote/kserve_grpc.py",),
    "ray": ("engines/ray/*.py",),
    "kubernetes": ("engines/kubernetes/api.py",),
}
"""Heavy library → the only files that may import it."""

ERROR_LINE = re.compile(
    r"    (?P<branches>(?:[│├└ ][ ─]{2} )*)(?P<name>[A-Z]\w+)(?: +(?:exit )?(?P<code>\d+))?( {2}|$)"
)


class Import(NamedTuple):
    library: str
    file: str
    line: int
    at_import_time: bool


def test_the_tree_in_architecture_md_names_only_what_exists() -> None:
    missing = [path for path in tree_of_architecture() if not (REPOSITORY / path).exists()]
    assert not missing, "ARCHITECTURE.md's tree names what does not exist"


def test_the_tree_in_architecture_md_names_every_module_and_package() -> None:
    tree = tree_of_architecture()
    assert "src/embedmill" in tree
    drawn = {"src/embedmill", *(str(Path(path).parent) for path in tree if path.startswith("src/embedmill/"))}
    unnamed = [path for folder in sorted(drawn) for path in modules_in(folder) if path not in tree]
    assert not unnamed, "src has what ARCHITECTURE.md's tree does not name"


@pytest.mark.parametrize("library", HOMES)
def test_a_heavy_library_is_imported_lazily_and_only_at_home(library: str) -> None:
    imports = [found for found in imports_of_package() if found.library == library]
    strays = [found for found in imports if not any(fnmatch(found.file, home) for home in HOMES[library])]
    eager = [found for found in imports if found.at_import_time]
    assert not strays, f"{library} may be imported only in {HOMES[library] or 'no file yet'}"
    assert not eager, f"{library} is optional: import it in the function that needs it"


def test_the_docstring_of_errors_draws_exactly_the_tree_of_errors() -> None:
    defined = {
        (name, error.__bases__[0].__name__, error.exit_code)
        for name, error in vars(embedmill.errors).items()
        if isinstance(error, type) and issubclass(error, EmbedmillError)
    }
    assert set(errors_drawn()) == defined


def tree_of_architecture() -> set[str]:
    """Paths, from the repository's root, that the block marked `tree` names by its indentation."""
    text = (REPOSITORY / "ARCHITECTURE.md").read_text()
    block = re.search(r"^```tree\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block, "ARCHITECTURE.md has no ```tree block"
    entries = re.findall(r"^( *)(\S+(?:\.py|/))(?:\s|$)", block[1], re.MULTILINE)
    paths: set[str] = set()
    parents = [(-1, "")]
    for spaces, name in entries:
        while parents[-1][0] >= len(spaces):
            parents.pop()
        parents.append((len(spaces), str(Path(parents[-1][1], name))))
        paths.add(parents[-1][1])
    return paths


def modules_in(folder: str) -> Iterator[str]:
    """Modules and packages of a folder; `__init__.py` and data files need no line of their own."""
    for path in sorted((REPOSITORY / folder).iterdir()):
        is_package = path.is_dir() and any(path.rglob("*.py"))
        is_module = path.suffix == ".py" and path.name != "__init__.py"
        if is_package or is_module:
            yield str(path.relative_to(REPOSITORY))


@cache
def imports_of_package() -> list[Import]:
    return [found for path in sorted(PACKAGE.rglob("*.py")) for found in imports_of(path)]


def imports_of(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(), path)
    later = {id(inner) for node in ast.walk(tree) if runs_later(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        for name in imported_names(node):
            file = str(path.relative_to(PACKAGE))
            yield Import(name.split(".")[0], file, line_of(node), id(node) not in later)


def imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [node.module or ""]
    return []


def line_of(node: ast.AST) -> int:
    return node.lineno if isinstance(node, ast.stmt) else 0


def runs_later(node: ast.AST) -> bool:
    """Whether what is in it does not run when its module is imported: a function, or `if TYPE_CHECKING`."""
    guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    return guarded or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def errors_drawn() -> Iterator[tuple[str, str, int]]:
    """Name, parent and exit code, as drawn in the docstring; a child without a code has its parent's."""
    ancestors: list[tuple[str, int]] = [("Exception", 1)]
    for line in (embedmill.errors.__doc__ or "").splitlines():
        drawn = ERROR_LINE.match(line)
        if drawn:
            depth = len(drawn["branches"]) // 4
            del ancestors[depth + 1 :]
            parent, inherited = ancestors[depth]
            code = int(drawn["code"] or inherited)
            ancestors.append((drawn["name"], code))
            yield drawn["name"], parent, code
