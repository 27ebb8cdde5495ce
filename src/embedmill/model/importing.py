"""Makes model packages: written beside the target, checked by embedding goldens, then renamed into place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pyarrow as pa

from embedmill.errors import ModelError
from embedmill.model.encoder import Encoder
from embedmill.model.goldens import TEXTS, goldens_file, write_goldens
from embedmill.model.package import SPEC_FILE, ModelPackage
from embedmill.runtimes.formats import confined, inside, refuse_pickle
from embedmill.runtimes.onnx_external import external_files
from embedmill.spec import load_model_spec


def import_onnx(file: Path, model_yaml: Path, target: Path) -> ModelPackage:
    """Make a package of an ONNX file and a `model.yaml` that declares it.

    Args:
        file: The ONNX file; files that it keeps tensors in are taken along.
        model_yaml: The declaration. What else it names (tokenizers, other runtimes' files) lies beside it.
        target: The folder to make.

    Raises:
        ModelError: `target` exists, or a file is absent, damaged, or does not fit the declaration.
        SpecError: `model_yaml` is wrong.
    """
    if not file.is_file():
        raise ModelError(f"{file}: no such file")
    spec = load_model_spec(model_yaml)
    graphs = sorted({runtime.file for runtime in spec.runtimes})
    tokenizers = {s.text.tokenizer for e in spec.encoders.values() for s in e.root.values() if s.text}
    with new_package(target) as folder:
        shutil.copyfile(model_yaml, folder / SPEC_FILE)
        for name in graphs:
            mine = len(graphs) == 1 or PurePosixPath(name).name == file.name
            _copy_graph(file if mine else _beside(model_yaml, name), folder, name, model_yaml)
        for name in sorted(tokenizers):
            copy_file(_beside(model_yaml, name), inside(folder, name, said_by=str(model_yaml)))
        write_text_goldens(ModelPackage.open(folder))
    return ModelPackage.open(target)


def _beside(model_yaml: Path, name: str) -> Path:
    return confined(model_yaml.parent, name, said_by=str(model_yaml))


def _copy_graph(file: Path, folder: Path, name: str, model_yaml: Path) -> None:
    refuse_pickle(file)
    goal = inside(folder, name, said_by=str(model_yaml))
    copy_file(file, goal)
    for external in external_files(file):
        copy_file(external, goal.parent / external.relative_to(file.parent))


def write_text_goldens(package: ModelPackage) -> None:
    """Embed `TEXTS` by every encoder that reads text alone, and keep inputs and vectors in the package.

    The reference runtime of each makes them: what the others are compared with.

    Encoders that read images are loaded as well, so that a package that does not fit is never made.

    Raises:
        ModelError: The model does not fit the declaration, or makes vectors that are not finite.
    """
    for name, inputs in package.spec.encoders.items():
        encoder = Encoder.load(package, name, using=package.spec.runtimes_for(name)[0])
        if any(spec.text is None for spec in inputs.root.values()):
            continue
        first, *others = inputs.fields
        columns = {first: pa.array(TEXTS), **{field: pa.nulls(len(TEXTS), pa.string()) for field in others}}
        rows = pa.record_batch(columns)
        encoded = encoder.encode(rows)
        for row, why in encoded.rejected.items():
            raise ModelError(f"{package.root}: encoder {name!r} fails on {TEXTS[row]!r}: {why.detail}")
        write_goldens(goldens_file(package, name), rows, encoded.vectors_ND)


def copy_file(source: Path, target: Path) -> None:
    """Copy contents alone, over links, into folders made as needed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


@contextmanager
def new_package(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` when all went well, and is gone when not.

    Raises:
        ModelError: `target` exists, or cannot be written.
    """
    if target.exists() or target.is_symlink():
        raise ModelError(f"{target}: exists already", hint="choose another folder, or delete this one")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            folder = Path(scratch) / target.name
            folder.mkdir()
            yield folder
            folder.rename(target)
    except OSError as error:
        raise ModelError(f"{target}: cannot be written: {error}") from error
