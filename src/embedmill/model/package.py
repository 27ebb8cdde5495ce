"""A model package: a folder with `model.yaml` and all that it names; its two digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from embedmill.errors import ModelError
from embedmill.runtimes.contents import contents
from embedmill.runtimes.formats import confined, refuse_pointer
from embedmill.spec import EncoderInputs, InputSpec, ModelSpec, RuntimeSection, load_model_spec

SPEC_FILE = "model.yaml"
GOLDENS = "goldens"
"""The folder that has a file of each encoder's goldens."""
PACKAGE_DIGEST = "embedmill/package-digest/1"
ENCODER_DIGEST = "embedmill/encoder-digest/1"


class Stamp(NamedTuple):
    """A file, and what changes with whatever changes it."""

    name: str
    inode: int
    size_bytes: int
    written_ns: int


@dataclass(frozen=True)
class ModelPackage:
    """An opened package. Its files are taken not to change while it is in use."""

    root: Path
    spec: ModelSpec

    @classmethod
    def open(cls, folder: str | Path) -> ModelPackage:
        """Read `model.yaml` and check that every file it names lies in the folder.

        Raises:
            ModelError: No package, or a file of it is absent, a pointer of Git LFS, or lies elsewhere.
            SpecError: `model.yaml` is wrong.
        """
        root = Path(folder)
        if not (root / SPEC_FILE).is_file():
            raise ModelError(
                f"{root}: no model package: it has no {SPEC_FILE}",
                hint="`embedmill model import` makes one of a sentence-transformers folder or an ONNX file",
            )
        package = cls(root, load_model_spec(root / SPEC_FILE))
        for name in package.spec.assets:
            refuse_pointer(package.path(name))
        for goldens in (root / GOLDENS).glob("*.jsonl"):
            refuse_pointer(goldens)
        for runtime in package.spec.runtimes:
            package.contents(runtime)
        return package

    def path(self, name: str) -> Path:
        """The file `name` of the package.

        Raises:
            ModelError: It is absent, or outside the folder.
        """
        return confined(self.root, name, said_by=str(self.root / SPEC_FILE))

    def contents(self, runtime: RuntimeSection) -> tuple[Path, ...]:
        """The files that a runtime reads, the main one first.

        Raises:
            ModelError: One is absent or damaged, a pointer of Git LFS, or lies outside of the folder.
        """
        return contents(runtime, self.root, said_by=str(self.root / SPEC_FILE))

    def inputs(self, encoder: str) -> EncoderInputs:
        """What an encoder reads.

        Raises:
            ModelError: The package has no such encoder.
        """
        for name, inputs in self.spec.encoders.items():
            if name == encoder:
                return inputs
        raise ModelError(
            f"{self.root}: the model has no encoder {encoder!r}",
            hint=f"it has: {', '.join(self.spec.encoders)}",
        )

    def files(self) -> list[str]:
        """Paths of all files, relative and `/`-separated, sorted; hidden files and caches do not belong."""
        return sorted(
            path.relative_to(self.root).as_posix()
            for path in self.root.rglob("*")
            if path.is_file() and _belongs(path.relative_to(self.root))
        )

    def stamps(self) -> list[Stamp]:
        """Of all files, as they are now: one that was written to, or is another one, has another stamp."""
        found = [(name, (self.root / name).stat()) for name in self.files()]
        return [Stamp(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found]

    def file_digests(self) -> Mapping[str, str]:
        """SHA-256 of every file's contents, in hex, by path; read once."""
        return self._digested[1]

    def is_as_digested(self) -> bool:
        """Whether no file changed since its digest was made, and all are there."""
        with suppress(OSError):
            return self.stamps() == self._digested[0]
        return False

    @cached_property
    def _digested(self) -> tuple[list[Stamp], Mapping[str, str]]:
        return self.stamps(), {name: _sha256(self.path(name)) for name in self.files()}

    def package_digest(self) -> str:
        """SHA-256 over every file's path and contents, in hex: integrity."""
        return _digest({"schema": PACKAGE_DIGEST, "files": dict(self.file_digests())})

    def encoder_digest(self, encoder: str = "item", *, epoch: int = 0) -> str:
        """SHA-256 over what changes this encoder's vectors, and nothing else, in hex.

        That is: the first runtime's file and the files that it refers to (other runtimes are other ways to
        compute the same, within a tolerance that loading them checks), tokenizers and vocabularies (by
        contents, not by name), the inputs' declaration without hints, output, dimension, normalisation,
        precision, and the numerics epoch.
        Comments, names, licences and other encoders leave it as it is.

        Raises:
            ModelError: The package has no such encoder.
        """
        inputs = self.inputs(encoder)
        document = {
            "schema": ENCODER_DIGEST,
            "epoch": epoch,
            "runtime": self._runtime_part(self.spec.runtimes_for(encoder)[0]),
            "inputs": {name: self._input_part(spec) for name, spec in inputs.root.items()},
            "dimension": self.spec.dimension,
            "normalize": self.spec.normalize,
            "precision": self.spec.precision,
        }
        return _digest(document)

    def _runtime_part(self, runtime: RuntimeSection) -> dict[str, Any]:
        defining = runtime.defining()
        if runtime.path is None:
            return defining
        names = [path.relative_to(self.root).as_posix() for path in self.contents(runtime)]
        if (self.root / runtime.path).is_dir():
            start = len(PurePosixPath(runtime.path).as_posix()) + 1
            return defining | {"folder": {name[start:]: self._contents(name) for name in names}}
        file, *external = names
        return defining | {"file": self._contents(file), "external": list(map(self._contents, external))}

    def _input_part(self, spec: InputSpec) -> dict[str, Any]:
        kind, declared = spec.kind, spec.kind.defining()
        if kind.FILE is not None and kind.file is not None:
            declared[kind.FILE] = self._contents(kind.file)
        return {kind.KIND: declared}

    def _contents(self, name: str) -> str:
        known = self.file_digests().get(Path(name).as_posix())
        return known if known is not None else _sha256(self.path(name))


def _belongs(path: Path) -> bool:
    return not any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of canonical JSON: sorted keys, no spaces, ASCII escapes, floats by their shortest form."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
