"""Whether what is installed in production can compute a model: told from files, without starting anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.errors import GateFailed, SpecError, StoreError
from embedmill.model import ModelPackage
from embedmill.runtimes.onnx_header import onnx_needs
from embedmill.spec import OnnxSpec
from embedmill.spec.documents import Verdict
from embedmill.spec.environment import Environment, InstalledRuntime

if TYPE_CHECKING:
    from embedmill.release.reader import Release
    from embedmill.spec import RuntimeSpec, ServingSpec

GATE = "environment"
NO_ENVIRONMENT = "nothing is said of production (serving.production)"
HINT = "`embedmill environment --json` prints one, where the release is to be served"
ONNX_RUNTIME: dict[tuple[int, int], tuple[int, int]] = {
    (1, 20): (21, 10),
    (1, 19): (21, 10),
    (1, 18): (21, 10),
    (1, 17): (20, 9),
    (1, 16): (19, 9),
    (1, 15): (19, 8),
    (1, 14): (18, 8),
    (1, 13): (17, 8),
    (1, 12): (17, 8),
    (1, 11): (16, 8),
    (1, 10): (15, 8),
    (1, 9): (15, 8),
    (1, 8): (14, 7),
}
"""ONNX Runtime → the newest opset and file version that it reads, for files in which nobody measured that.

https://onnxruntime.ai/docs/reference/compatibility.html#onnx-opset-support
"""


def read_environment(file: Path) -> Environment:
    """Read what production printed.

    Raises:
        SpecError: The file is missing or damaged.
    """
    try:
        return Environment.from_bytes(file.read_bytes(), str(file))
    except FileNotFoundError:
        raise SpecError(f"serving.production.environment: {file}: no such file", hint=HINT) from None
    except OSError as error:
        raise SpecError(f"serving.production.environment: {file}: {error.strerror}", hint=HINT) from None
    except StoreError as error:
        raise SpecError(f"serving.production.environment: {error.message}", hint=HINT) from None


def check_environment(serving: ServingSpec, root: Path, package: ModelPackage) -> None:
    """Find out before anything is computed whether the gate can pass; `root` is the spec's folder.

    Raises:
        SpecError: The file is missing or damaged.
        GateFailed: By what it says now, production cannot compute an encoder.
    """
    if serving.production is None or serving.production.environment is None:
        return
    file = root / serving.production.environment
    said = _said_lacking(package, read_environment(file))
    if said:
        raise GateFailed(
            f"what is missing is not computed, for it could not be published: {GATE}: {said}",
            hint=f"install it in production and write {file} anew, with `embedmill environment --json`, "
            "or import a model that production can compute",
        )


def environment(candidate: Release, baseline: Release | None) -> Verdict:  # noqa: ARG001 - the seam
    """Every encoder has a runtime in production that reads its file."""
    production = candidate.content.pipeline.serving.production
    if production is None or production.environment is None:
        return Verdict(gate=GATE, passed=True, message=NO_ENVIRONMENT)
    there = read_environment(Path(production.environment))
    said = _said_lacking(ModelPackage.open(candidate.model_folder), there)
    message = said or f"production can compute every encoder{_other_versions(candidate, there)}"
    return Verdict(gate=GATE, passed=not said, message=message)


def _said_lacking(package: ModelPackage, there: Environment) -> str:
    """Why production cannot compute which encoders; empty if it can compute each."""
    wrong = {encoder: why for encoder in package.spec.encoders if (why := _lacking(package, encoder, there))}
    return "; ".join(f"encoder {encoder}: {why}" for encoder, why in wrong.items())


def _lacking(package: ModelPackage, encoder: str, there: Environment) -> str:
    """Why production cannot compute an encoder; empty if one of its runtimes can."""
    reasons = [_unfit(package, spec, there) for spec in package.spec.runtimes_for(encoder)]
    return "" if "" in reasons else "; ".join(reasons)


def _unfit(package: ModelPackage, spec: RuntimeSpec, there: Environment) -> str:
    runtime = there.runtimes.get(spec.kind)
    if runtime is None:
        has = ", ".join(there.runtimes) or "none"
        return f"the model needs the runtime {spec.kind!r}, and production has {has}"
    return _too_new(package, spec, runtime) if isinstance(spec, OnnxSpec) else ""


def _too_new(package: ModelPackage, spec: OnnxSpec, runtime: InstalledRuntime) -> str:
    needs, (opset, ir) = onnx_needs(package.path(spec.file)), _newest(runtime)
    name = f"production's {runtime.library} {runtime.version}"
    if opset is not None and needs.opset > opset:
        return f"{name} supports opset {opset}, the model needs {needs.opset}"
    if ir is not None and needs.ir > ir:
        return f"{name} reads files of IR version {ir}, the model's is {needs.ir}"
    return ""


def _newest(runtime: InstalledRuntime) -> tuple[int | None, int | None]:
    """As measured, else as documented, else unknown."""
    opset, ir = ONNX_RUNTIME.get(_release(runtime.version), (None, None))
    return runtime.max_opset or opset, runtime.max_ir or ir


def _release(version: str) -> tuple[int, int]:
    numbers = [int(part) if part.isdecimal() else 0 for part in (*version.split("."), "0", "0")[:2]]
    return numbers[0], numbers[1]


def _other_versions(candidate: Release, there: Environment) -> str:
    """Versions that are not those that made the vectors: no fault, but where to look if goldens move."""
    made = {profile.runtime: profile.runtime_version for profile in candidate.content.profiles}
    other = [
        f"{runtime.library} {runtime.version}, where {made[runtime.library]} made the vectors"
        for runtime in there.runtimes.values()
        if made.get(runtime.library, runtime.version) != runtime.version
    ]
    return f" ({'; '.join(other)})" if other else ""
