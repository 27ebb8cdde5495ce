"""A model repository for TensorFlow Serving, of packages that have a SavedModel; its version is the number.

    <to>/models.config                        which models there are, and the one version of each
         <pipeline>-<encoder>/<number>/       the SavedModel

TensorFlow Serving moves to the largest version by itself, unless `specific` names one:
https://github.com/tensorflow/serving/blob/master/tensorflow_serving/g3doc/serving_config.md
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from embedmill.deploy.pbtxt import Value, text_format
from embedmill.deploy.repository import new_version, number_of, place, replace_text
from embedmill.errors import ReleaseIncompatible
from embedmill.model import ModelPackage
from embedmill.spec import TensorFlowSpec
from embedmill.spec.deployed import DeployedModelReport, DeployReport
from embedmill.spec.serving import served_model
from embedmill.store.hashing import file_sha256

if TYPE_CHECKING:
    from embedmill.release.reader import Release

CONFIG = "models.config"


def deploy_tf_serving(
    release: Release, to: Path, *, number: int | None = None, base_path: str | None = None
) -> DeployReport:
    """Lay out each encoder that a SavedModel computes; versions that are there stay.

    Args:
        release: The release.
        to: The repository's folder; made if absent.
        number: The version, where the release lies outside of its store.
        base_path: Where the server sees the folder, such as `/models`; where it is, if absent.

    Raises:
        ReleaseIncompatible: The package has no SavedModel, or the number is not known.
        SpecError: The version's folder holds another model.
    """
    version = number_of(release, number)
    package = ModelPackage.open(release.model_folder)
    found = [(name, _saved_model(package, name)) for name in package.spec.encoders]
    wanted = [(name, spec) for name, spec in found if spec is not None]
    if not wanted:
        kinds = ", ".join(spec.kind for spec in package.spec.runtimes)
        raise ReleaseIncompatible(
            f"release {release.name}: its model has no SavedModel, which TensorFlow Serving needs",
            hint=f"it has: {kinds}; `embedmill deploy triton` takes all of them",
        )
    models = []
    for encoder, spec in wanted:
        model = served_model(release.content.pipeline.name, encoder)
        folder = to / model / str(version)
        _lay_out(package, spec, folder)
        models.append(
            DeployedModelReport(model=model, encoder=encoder, folder=str(folder), signature=spec.signature)
        )
    base = PurePosixPath(base_path or to.absolute().as_posix())
    replace_text(to / CONFIG, text_format(_config([each.model for each in models], base, version)))
    return DeployReport(repository=str(to), release=release.name, number=version, models=tuple(models))


def _saved_model(package: ModelPackage, encoder: str) -> TensorFlowSpec | None:
    return next((r for r in package.spec.runtimes_for(encoder) if isinstance(r, TensorFlowSpec)), None)


def _lay_out(package: ModelPackage, spec: TensorFlowSpec, folder: Path) -> None:
    source = package.root / spec.folder
    names = sorted(path.relative_to(source).as_posix() for path in package.contents(spec))
    if folder.is_dir() and _same(source, folder, names):
        return
    with new_version(folder) as partial:
        place(source, names, partial)


def _same(source: Path, folder: Path, names: list[str]) -> bool:
    there = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return there == names and all(file_sha256(source / name) == file_sha256(folder / name) for name in names)


def _config(models: list[str], base: PurePosixPath, version: int) -> dict[str, Value]:
    configs: list[Value] = [
        {
            "name": model,
            "base_path": str(base / model),
            "model_platform": "tensorflow",
            "model_version_policy": {"specific": {"versions": version}},
        }
        for model in models
    ]
    return {"model_config_list": {"config": configs}}
