"""A model repository for Triton: each encoder of a release a model, whose version is the release's number.

    <to>/<pipeline>-<encoder>/config.pbtxt        what it reads and gives, its limits, the one version loaded
                              <number>/model.py   Triton's Python backend runs it, with embedmill installed
                                       package/   the model package
                                       goldens.arrow, deployed.json

https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embedmill.deploy.pbtxt import Value, Word, text_format
from embedmill.deploy.repository import new_version, number_of, place, replace_text
from embedmill.errors import ReleaseIncompatible
from embedmill.model import ModelPackage
from embedmill.model.raw_tensors import OUTPUT, field_tensors, may_be_absent
from embedmill.release.goldens import written_goldens
from embedmill.runtimes.remote.fields.base import MODEL, NUMBER, RELEASE
from embedmill.spec.deployed import (
    DEPLOYED,
    GOLDENS,
    PACKAGE,
    DeployedEncoder,
    DeployedModelReport,
    DeployReport,
)
from embedmill.spec.serving import served_model

if TYPE_CHECKING:
    from embedmill.release.reader import Release
    from embedmill.runtimes import TensorSpec

TYPES = {"string": "TYPE_STRING", "float64": "TYPE_FP64", "bool": "TYPE_BOOL"}
Kind = Literal["cpu", "gpu"]


def deploy_triton(
    release: Release,
    to: Path,
    *,
    number: int | None = None,
    kind: Kind = "cpu",
    instances: int = 1,
    threads: int = 1,
) -> DeployReport:
    """Lay out each encoder of a release in the model repository `to`, beside what is there.

    Versions that are there stay; the configuration names the new one alone. A second call finds what the
    first one did.

    Args:
        release: The release.
        to: The repository's folder; made if absent.
        number: The version, where the release lies outside of its store.
        kind: Where Triton computes.
        instances: Copies of each model, for each GPU if `kind` is `gpu`.
        threads: Threads of each copy.

    Raises:
        ReleaseIncompatible: Its number is not known, or an encoder has no goldens to prove itself by.
        SpecError: The version's folder holds another release.
    """
    version = number_of(release, number)
    package = ModelPackage.open(release.model_folder)
    pipeline, models = release.content.pipeline, []
    for encoder in package.spec.encoders:
        model = served_model(pipeline.name, encoder)
        deployed = DeployedEncoder(
            release=release.name,
            number=version,
            model=model,
            encoder=encoder,
            package_digest=package.package_digest(),
            threads=threads,
        )
        folder = to / model / str(version)
        if not _is_there(folder, deployed):
            _lay_out(release, package, deployed, folder)
        config = _config(release, package, deployed, kind, instances)
        replace_text(to / model / "config.pbtxt", text_format(config))
        models.append(DeployedModelReport(model=model, encoder=encoder, folder=str(folder)))
    return DeployReport(repository=str(to), release=release.name, number=version, models=tuple(models))


def _is_there(folder: Path, deployed: DeployedEncoder) -> bool:
    file = folder / DEPLOYED
    return file.is_file() and file.read_bytes() == deployed.to_bytes()


def _lay_out(release: Release, package: ModelPackage, deployed: DeployedEncoder, folder: Path) -> None:
    goldens = written_goldens(release, deployed.encoder)
    if goldens is None:
        raise ReleaseIncompatible(
            f"release {release.name}: encoder {deployed.encoder!r} has no goldens to prove itself by",
            hint="`embedmill model import` writes goldens into the package",
        )
    with new_version(folder) as partial:
        template = files("embedmill.deploy.templates") / "model.py"
        (partial / "model.py").write_bytes(template.read_bytes())
        place(package.root, package.files(), partial / PACKAGE)
        (partial / GOLDENS).write_bytes(goldens)
        (partial / DEPLOYED).write_bytes(deployed.to_bytes())


def _config(
    release: Release, package: ModelPackage, deployed: DeployedEncoder, kind: Kind, instances: int
) -> dict[str, Value]:
    inputs, limits = package.inputs(deployed.encoder), release.content.pipeline.serving
    optional, labels = may_be_absent(inputs), _labels(deployed)
    return {
        "name": deployed.model,
        "backend": "python",
        "max_batch_size": limits.batch_rows,
        "input": [_input(spec, optional=name in optional) for name, spec in field_tensors(inputs).items()],
        "output": {"name": OUTPUT, "data_type": Word("TYPE_FP32"), "dims": package.spec.dimension},
        "version_policy": {"specific": {"versions": deployed.number}},
        "instance_group": {"kind": Word(f"KIND_{kind.upper()}"), "count": instances},
        "dynamic_batching": {
            "default_queue_policy": {
                "timeout_action": Word("REJECT"),
                "default_timeout_microseconds": round(limits.wait_s * 1e6),
                "max_queue_size": limits.queue_rows,
            }
        },
        "parameters": [{"key": name, "value": {"string_value": value}} for name, value in labels.items()],
    }


def _input(spec: TensorSpec, *, optional: bool) -> dict[str, Value]:
    """Without the dimension of rows; a single value is one of one, since Triton has no scalars in batches."""
    found: dict[str, Value] = {"name": spec.name, "data_type": Word(TYPES[spec.dtype]), "dims": 1}
    return found | ({"optional": True} if optional else {})


def _labels(deployed: DeployedEncoder) -> dict[str, str]:
    return {
        RELEASE: deployed.release,
        NUMBER: str(deployed.number),
        MODEL: deployed.package_digest,
    }
