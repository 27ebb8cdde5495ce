"""Makes model packages of what others made, and checks them by embedding goldens."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from embedmill.errors import DeviceUnavailable, MissingExtra, ModelError
from embedmill.model.alone import check_alone
from embedmill.model.check import check_others
from embedmill.model.encoder import Encoder
from embedmill.model.goldens import goldens_file, write_goldens
from embedmill.model.keras_export import export_keras
from embedmill.model.new_package import new_package
from embedmill.model.outputs import said_of_output
from embedmill.model.package import SPEC_FILE, ModelPackage
from embedmill.model.raw_feeds import BytesFeed
from embedmill.model.reduced import check_reduced, reduced_cosine
from embedmill.model.samples import sample_rows
from embedmill.runtimes.availability import availability
from embedmill.runtimes.contents import files_at
from embedmill.runtimes.formats import confined, inside, is_xml, refuse_pickle, refuse_pointer
from embedmill.runtimes.savedmodel import GRAPH_FILE
from embedmill.spec import (
    ModelSpec,
    OpenVinoSpec,
    RuntimeSection,
    RuntimeSpec,
    TensorFlowSpec,
    load_model_spec,
)
from embedmill.spec.runtimes import FileRuntime
from embedmill.types import Encoded, Reason

LOG = logging.getLogger("embedmill.model")
LONGEST_ROW = 200
KERAS = ".keras"


def import_declared(source: Path, model_yaml: Path, target: Path) -> ModelPackage:
    """Make a package of a model's file or folder and a `model.yaml` that declares it.

    Args:
        source: An ONNX file, a SavedModel folder, a `.keras` file, which is exported to a SavedModel, or what
            another runtime loads. It stands for the declaration's only model, or for the one that is declared
            where it lies, or has its path or name; other models lie beside `model_yaml`.
        model_yaml: The declaration. What else it names (tokenizers, vocabularies) lies beside it.
        target: The folder to make.

    Raises:
        ModelError: `target` exists, or a file is absent, damaged, or does not fit the declaration.
        SpecError: `model_yaml` is wrong.
    """
    if not source.exists():
        raise ModelError(f"{source}: no such file or folder")
    spec = load_model_spec(model_yaml)
    models = _models(spec)
    mine = _stood_for(source, models, model_yaml)
    with new_package(target) as folder:
        for path in mine:
            _copy_model(source, folder, models[path], model_yaml)
        lay_out(spec, model_yaml, folder, without=mine)
        make_goldens(ModelPackage.open(folder))
    return ModelPackage.open(target)


def _stood_for(source: Path, models: Mapping[str, RuntimeSection], model_yaml: Path) -> AbstractSet[str]:
    """Which of the declared models the source is: the only one, that which lies there, or that of its name.

    Raises:
        ModelError: None is, or several are: taking another would make a package of a model that nobody meant.
    """
    if len(models) <= 1:
        return set(models)
    given = {path: _as_declared(source, runtime) for path, runtime in models.items()}
    there = {path for path in models if given[path].resolve() == (model_yaml.parent / path).resolve()}
    if there:  # several are links to one file
        return there
    declared = {path: PurePosixPath(path).parts for path in models}
    by_path = {
        path for path, parts in declared.items() if given[path].absolute().parts[-len(parts) :] == parts
    }
    by_name = {path for path, parts in declared.items() if given[path].name == parts[-1]}
    # a path of one part says no more than a name, which others may have in their folders
    found = by_path if any(len(declared[path]) > 1 for path in by_path) else by_name
    if len(found) != 1:
        listed = ", ".join(sorted(models))
        keras = (
            f", a {KERAS} file by that of its folder with {KERAS} after it" if source.suffix == KERAS else ""
        )
        raise ModelError(
            f"{source}: stands for {'several' if found else 'none'} of the models of {model_yaml}: {listed}",
            hint=f"name one of them by its path{keras}; the others are taken from beside model.yaml",
        )
    return found


def _as_declared(source: Path, runtime: RuntimeSection) -> Path:
    """Where the source would lie as the declaration has it: a `.keras` file is the folder that it becomes."""
    becomes_folder = isinstance(runtime, TensorFlowSpec) and source.suffix == KERAS
    return source.with_suffix("") if becomes_folder else source


def lay_out(spec: ModelSpec, model_yaml: Path, folder: Path, *, without: AbstractSet[str]) -> None:
    """Copy the declaration into a folder, and all that it names beside it but the models of these paths.

    Raises:
        ModelError: A file is absent or damaged, or lies outside of the declaration's folder.
    """
    shutil.copyfile(model_yaml, folder / SPEC_FILE)
    for path, runtime in sorted(_models(spec).items()):
        if path not in without:
            _copy_model(_model_beside(model_yaml, path), folder, runtime, model_yaml)
    for name in spec.assets:
        copy_file(_beside(model_yaml, name), inside(folder, name, said_by=str(model_yaml)))


def _models(spec: ModelSpec) -> dict[str, RuntimeSection]:
    """The runtimes that load something of the package, by its path."""
    runtimes: tuple[RuntimeSection, ...] = spec.runtimes
    return {runtime.path: runtime for runtime in runtimes if runtime.path is not None}


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
    else:
        _check_folder(source, runtime)
    for file in files_at(source, runtime):
        if source.is_dir():
            copy_file(file, goal / file.relative_to(source))
        elif file == source:
            copy_file(file, goal)
        elif is_xml(source):  # weights of an IR are found by its name; other files by those that they have
            copy_file(file, goal.with_suffix(file.suffix))
        else:
            copy_file(file, goal.parent / file.relative_to(source.parent))


def _check_folder(source: Path, runtime: RuntimeSection) -> None:
    """Say of the folder that was named, and not of its copy, that it is none that the runtime loads."""
    if isinstance(runtime, FileRuntime) or (isinstance(runtime, OpenVinoSpec) and runtime.file is not None):
        raise ModelError(
            f"{source}: is a folder, and this model is one file, {runtime.path}", hint="name the file"
        )
    if not (source / GRAPH_FILE).is_file():
        below = [str(file.parent) for file in sorted(source.glob(f"*/{GRAPH_FILE}"))]
        raise ModelError(
            f"{source}: is no SavedModel: it has no file {GRAPH_FILE}",
            hint=f"there is one in {', '.join(below)}" if below else "name the folder that has it",
        )


def make_goldens(package: ModelPackage) -> None:
    """Embed made-up rows by every encoder, and keep rows and vectors in the package.

    The reference runtime of each makes them: what the others are compared with. Rows that the encoder refuses
    are left out, and those whose vectors are not finite; where it refuses all, such as files of a kind that
    nobody can guess, it has no goldens. The others that can compute here are compared at once.

    Raises:
        ModelError: The model does not fit the declaration, or makes no vector that is finite, or others
            alone than in a batch; or JPEGs at a reduced scale move vectors by more than is declared; or
            another runtime is damaged, does not fit, or makes other vectors.
        MissingExtra, DeviceUnavailable: The reference runtime cannot compute here.
    """
    said = set[str]()
    for name in package.spec.encoders:
        rows, reference = sample_rows(package, name), package.spec.runtimes_for(name)[0]
        with _reference(package, name, reference) as encoder:
            said.add(said_of_output(encoder, reference))
            encoded = _tried(encoder, rows)
            _check_finite(package, name, rows, encoded)
            out_of_tolerance = check_alone(encoder, rows, encoded)
            out_of_tolerance = out_of_tolerance or check_reduced(encoder, reduced_cosine(encoder))
        if out_of_tolerance is not None:
            raise out_of_tolerance
        kept = np.setdiff1d(np.arange(len(rows)), list(encoded.rejected))
        if len(kept):
            vectors = encoded.vectors_ND[kept]
            write_goldens(goldens_file(package, name), rows.take(pa.array(kept)), vectors)
        said |= _compared(package, name)
    for sentence in sorted(filter(None, said)):
        LOG.warning("%s", sentence)


def _reference(package: ModelPackage, name: str, reference: RuntimeSpec) -> Encoder:
    """The encoder by the runtime that makes its goldens.

    Raises:
        MissingExtra, DeviceUnavailable: It cannot compute here; says which other one might.
    """
    try:
        return Encoder.load(package, name, using=reference)
    except (MissingExtra, DeviceUnavailable) as error:
        kinds = dict.fromkeys(
            each.kind
            for each in package.spec.runtimes_for(name)
            if each.kind != reference.kind and not availability(each, package.root).why
        )
        error.message = f"{error.message}: {reference.kind} is the first of `runtimes` and makes the goldens"
        if kinds:
            instead = f"put {' or '.join(kinds)} first, which is available here"
            error.hint = f"{error.hint}, or {instead}" if error.hint else instead
        raise


def _compared(package: ModelPackage, name: str) -> set[str]:
    """What is worth a warning of runtimes that are not the first; that one is not installed is not.

    Raises:
        EmbedmillError: One is damaged, does not fit, or makes other vectors.
    """
    others = check_others(package, name)
    for each in others:
        if each.state == "failed" and each.error is not None:
            each.error.message = f"{each.spec.kind} {each.spec.model_name}: {each.error.message}"
            raise each.error
    return {
        *(each.said_of_output for each in others),
        *(
            f"{each.spec.kind} {each.spec.model_name}: was not compared with the first of `runtimes`: "
            + str(each.error).replace(f"{package.root}/", "")
            for each in others
            if each.state == "unavailable" and type(each.error) is not MissingExtra
        ),
    }


def _check_finite(package: ModelPackage, name: str, rows: pa.RecordBatch, encoded: Encoded) -> None:
    """Warn of made-up rows whose vectors are not finite; fail where none of them is."""
    broken = {row: why for row, why in encoded.rejected.items() if why.reason == Reason.NOT_FINITE}
    if not broken:
        return
    row, why = next(iter(broken.items()))
    shown = str(rows.slice(row, 1).to_pylist()[0])[:LONGEST_ROW]
    said = f"of {shown} it makes a vector that is not finite: {why.detail}"
    if len(encoded.rejected) == len(rows):
        raise ModelError(f"{package.root}: encoder {name!r}: {said}; no made-up row has one that is")
    LOG.warning(
        "encoder %r: %s; %d of %d made-up rows are so, and such items will be quarantined",
        *(name, said, len(broken), len(rows)),
    )


def _tried(encoder: Encoder, rows: pa.RecordBatch) -> Encoded:
    """The rows embedded; those of files one by one, of which a model may not know a single one."""
    if not any(isinstance(feed, BytesFeed) for feed in encoder.binding.feeds):
        return encoder.encode(rows)
    parts = [encoder.encode(rows.slice(row, 1)) for row in range(len(rows))]
    rejected = {row: part.rejected[0] for row, part in enumerate(parts) if part.rejected}
    return Encoded(np.concatenate([part.vectors_ND for part in parts]), rejected)


def copy_file(source: Path, target: Path) -> None:
    """Copy contents alone, over links, into folders made as needed.

    Raises:
        ModelError: The source is a pointer of Git LFS, or cannot be read.
    """
    refuse_pointer(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
