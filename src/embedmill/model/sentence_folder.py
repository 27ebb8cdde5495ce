"""Reads what a sentence-transformers folder says, and refuses what could run code, before a library loads it.

The folder's format: https://sbert.net/docs/package_reference/sentence_transformer/models.html. `modules.json`
names the steps from text to vector, by Python class, and the folder of each (which Normalize may lack).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from embedmill.errors import ModelError
from embedmill.runtimes.formats import inside

OWN_CONFIG = "config_sentence_transformers.json"
DOCUMENT_PROMPTS = ("document", "passage", "corpus")
MODULE = re.compile(r"sentence_transformers(?:\.\w+)*\.(\w+)", re.ASCII)
ACTIVATION = re.compile(r"torch\.nn\.modules\.(?:activation|linear)\.\w+", re.ASCII)
REMOTE_CODE = ("auto_map", "custom_pipelines", "trust_remote_code")
"""Keys of configurations that name code to be fetched or run."""


@dataclass(frozen=True)
class SentenceFolder:
    """A folder's modules, in order: name of the class and folder."""

    root: Path
    modules: tuple[tuple[str, Path], ...]

    @classmethod
    def read(cls, root: Path) -> SentenceFolder:
        """Read `modules.json`.

        Raises:
            ModelError: There is none, it is damaged, or it names a class from elsewhere or a path outside.
        """
        file = root / "modules.json"
        if not root.is_dir():
            raise ModelError(
                f"{root}: no such folder", hint="give the folder of a model, or a file and --spec"
            )
        if not file.is_file():
            raise ModelError(
                f"{root}: no sentence-transformers folder: it has no modules.json",
                hint="a SavedModel or another model needs --spec, which says what its inputs are",
            )
        try:
            listed = [(str(m["type"]), str(m["path"])) for m in json.loads(file.read_bytes())]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ModelError(f"{file}: cannot be read: {error}") from error
        return cls(root, tuple((_class_name(file, kind), _folder(root, path, file)) for kind, path in listed))

    @property
    def kinds(self) -> list[str]:
        """Names of the modules' classes."""
        return [kind for kind, _ in self.modules]

    def path(self, kind: str) -> Path:
        """Folder of the first module of that class.

        Raises:
            ModelError: There is none.
        """
        for found, path in self.modules:
            if found == kind:
                return path
        raise ModelError(f"{self.root / 'modules.json'}: names no {kind}")

    @property
    def config(self) -> dict[str, Any]:
        """The transformer's `config.json`."""
        return read_json(self.path("Transformer") / "config.json")

    @property
    def bert_config(self) -> dict[str, Any]:
        """The transformer's `sentence_bert_config.json`: length and case."""
        return read_json(self.path("Transformer") / "sentence_bert_config.json", optional=True)

    @property
    def prompts(self) -> dict[str, str]:
        """What is put in front of texts, by name."""
        declared = read_json(self.root / OWN_CONFIG, optional=True)
        return {key: text for key, text in (declared.get("prompts") or {}).items() if text}

    @property
    def license(self) -> str | None:
        """What the model card's front matter says."""
        readme = self.root / "README.md"
        if not readme.is_file():
            return None
        front = re.match(r"---\n(.*?)\n---", readme.read_text("utf-8", errors="replace"), re.DOTALL)
        try:
            found = yaml.safe_load(front[1]) if front else None
        except yaml.YAMLError:
            return None
        said = found.get("license") if isinstance(found, dict) else None
        return said if isinstance(said, str) else None

    @property
    def name(self) -> str:
        """The folder's name, in the form that names have."""
        return re.sub(r"[^a-z0-9._-]+", "-", self.root.resolve().name.lower()).strip("._-")[:63] or "model"

    def templates(self, item: str, query: str) -> dict[str, str]:
        """Templates by encoder, with the prompts that the folder declares in front of them."""
        return {
            "item": self._with_prompt(item, *DOCUMENT_PROMPTS),
            "query_text": self._with_prompt(query, "query"),
        }

    def _with_prompt(self, template: str, *names: str) -> str:
        prompt = self._prompt(*names)
        escaped = prompt.replace("{", "{{").replace("}", "}}")
        return template if template.startswith(escaped) else escaped + template

    def _prompt(self, *names: str) -> str:
        prompts = self.prompts
        return next((prompts[name] for name in names if name in prompts), "")

    def check_supported(self) -> None:
        """Fail if the folder declares a step that no package makes, so that vectors would be others.

        Raises:
            ModelError: It does, or a configuration is damaged.
        """
        file = self.root / OWN_CONFIG
        kept = read_json(file, optional=True).get("truncate_dim")
        if kept is not None:
            raise ModelError(
                f"{file}: truncate_dim: {kept} is not supported",
                hint="remove it, to have whole vectors; or export the model to ONNX with the cut",
            )
        prompted = self._prompt(*DOCUMENT_PROMPTS) or self._prompt("query")
        for kind, path in self.modules:
            if (
                prompted
                and kind == "Pooling"
                and read_json(path / "config.json").get("include_prompt") is False
            ):
                raise ModelError(
                    f"{path / 'config.json'}: include_prompt: false is not supported: texts would be pooled "
                    "with the tokens of their prompts",
                    hint="export the model to ONNX, and import that",
                )

    def check_harmless(self) -> None:
        """Fail if a configuration names code that is not that of installed libraries.

        Raises:
            ModelError: It does, or a configuration is damaged.
        """
        for path in dict.fromkeys([self.root, *(path for _, path in self.modules)]):
            for file in sorted(path.glob("*.json")):
                _check_config(file)
        for kind, path in self.modules:
            activation = (
                read_json(path / "config.json").get("activation_function") if kind == "Dense" else None
            )
            if activation is not None and not ACTIVATION.fullmatch(str(activation)):
                raise ModelError(
                    f"{path / 'config.json'}: the activation {str(activation)[:80]!r} is not torch's own"
                )


def read_json(file: Path, *, optional: bool = False) -> dict[str, Any]:
    """A JSON file with a mapping; empty where it is optional and absent.

    Raises:
        ModelError: It is absent, damaged, or something else.
    """
    if optional and not file.is_file():
        return {}
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{file}: is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file}: expected a mapping, found {type(found).__name__}")
    return found


def missing_weights(file: Path) -> ModelError:
    """What to say where there are no weights that may be loaded."""
    others = [path.name for path in sorted(file.parent.glob("*.bin"))]
    hint = f"{others[0]} is a pickle and never loaded; " if others else ""
    return ModelError(f"{file}: is missing", hint=f"{hint}save the model again as one safetensors file")


def _class_name(file: Path, kind: str) -> str:
    found = MODULE.fullmatch(kind)
    if found is None:
        raise ModelError(
            f"{file}: names the module {kind[:80]!r}",
            hint="modules of sentence_transformers itself are loaded",
        )
    return found[1]


def _folder(root: Path, path: str, file: Path) -> Path:
    return inside(root, path, said_by=str(file)) if path else root


def _check_config(file: Path) -> None:
    if file.name == "adapter_config.json":
        raise ModelError(f"{file}: is an adapter", hint="merge it into its model, and save that")
    if file.name == "tokenizer.json":  # says nothing about code, and may be large
        return
    try:
        for key in _keys(json.loads(file.read_bytes())):
            raise ModelError(
                f"{file}: {key!r} names code that is not that of an installed library, and is never run",
                hint="export the model to ONNX, and import that",
            )
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error


def _keys(found: Any) -> Iterator[str]:
    """Keys that name code, wherever they stand."""
    if isinstance(found, Mapping):
        yield from (key for key in REMOTE_CODE if found.get(key))
        for inner in found.values():
            yield from _keys(inner)
    elif isinstance(found, list):
        for inner in found:
            yield from _keys(inner)
