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
from embedmill.model.keras_export import export_keras
from embedmill.model.package import SPEC_FILE, ModelPackage
from embedmill.runtimes.contents import files_at
from embedmill.runtimes.formats import confined, inside, refuse_pickle
from embedmill.spec import RuntimeSection, TensorFlowSpec, load_model_spec


def import_declared(source: Path, model_yaml: Path, target: Path) -> ModelPackage:
    """Make a package of a model's file or folder and a `model.yaml` that declares it.

    Args:
        source: An ONNX file, a SavedModel folder, a `.keras` file, which is exported to a SavedModel, or what
            another runtime loads. It stands for the declaration's only model, or for the one of its name;
            other models lie beside `model_yaml`.
        model_yaml: The declaration. What else it names, such as tokenizers, lies beside it.
        target: The folder to make.

    Raises:
        ModelError: `target` exists, or a file is absent, damaged, or does not fit the declaration.
        SpecError: `model_yaml` is wrong.
    """
    if not source.exists():
        raise ModelError(f"{source}: no such file or folder")
    spec = load_model_spec(model_yaml)
    runtimes: tuple[RuntimeSection, ...] = spec.runtimes
    models = {runtime.path: runtime for runtime in runtimes if runtime.path is not None}
    tokenizers = {s.text.tokenizer for e in spec.encoders.values() for s in e.root.values() if s.text}
    with new_package(target) as folder:
        shutil.copyfile(model_yaml, folder / SPEC_FILE)
        for path, runtime in sorted(models.items()):
            mine = len(models) == 1 or PurePosixPath(path).name == source.name
            _copy_model(source if mine else _model_beside(model_yaml, path), folder, runtime, model_yaml)
        for name in sorted(tokenizers):
            copy_file(_beside(model_yaml, name), inside(folder, name, said_by=str(model_yaml)))
        write_text_goldens(ModelPackage.open(folder))
    return ModelPackage.open(target)


def _beside(model_yaml: Path, name: str) -> Path:
    return confined(model_yaml.parent, name, said_by=str(model_yaml))


def _model_beside(model_yaml: Path, name: str) -> Path:
    path = inside(model_yaml.parent, name, said_by=str(model_yaml))
    return path if path.is_dir() else _beside(model_yaml, name)


def _copy_model(source: Path, folder: Path, runtime: RuntimeSection, model_yaml: Path) -> None:
    """Copy a file with those that it refers to, or a folder, to where the declaration says that it is."""
    goal = inside(folder, str(runtime.path), said_by=str(model_yaml))
    if source.is_file() and isinstance(runtime, TensorFlowSpec):
        with tempfile.TemporaryDirectory(prefix=".keras.", dir=folder.parent) as scratch:
            shutil.copytree(export_keras(source, Path(scratch)), goal)
        return
    if source.is_file():
        refuse_pickle(source)
    for file in files_at(source, runtime):
        if source.is_dir():
            copy_file(file, goal / file.relative_to(source))
        else:
            copy_file(file, goal if file == source else goal.parent / file.relative_to(source.parent))


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
