"""Makes a model package of a Python function that JAX can trace, and a `model.yaml` that declares its inputs.

The function is the user's own code, which the user names: it is imported, and so run, in a child process of
this environment. Nothing of a package or of any other file is ever imported.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath

from embedmill.errors import ModelError, SpecError
from embedmill.model.importing import lay_out, make_goldens
from embedmill.model.jax_inputs import ROWS, arrays_of
from embedmill.model.jax_lowering import ARTIFACT, PRECISIONS, PROBLEM, REQUEST, Problem, Request
from embedmill.model.new_package import new_package
from embedmill.model.package import ModelPackage
from embedmill.runtimes.base import TensorSpec, choose_output
from embedmill.runtimes.jax_artifact import Artifact, jax_library, read_artifact
from embedmill.spec import JaxSpec, ModelSpec, load_model_spec

FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
STDERR = 2


def is_function(source: str) -> bool:
    """Whether it is written as a function is named, `package.module:function`, and no file has the name."""
    return FUNCTION.fullmatch(source) is not None and not Path(source).exists()


def import_function(function: str, model_yaml: Path, target: Path) -> ModelPackage:
    """Make a package of a function, exported by `jax.export`, and a declaration of its inputs.

    Args:
        function: Such as `shop.model:embed`. Importing its module runs that code, in a child process that
            finds modules in the current folder, in PYTHONPATH and among installed packages. It takes the
            declared inputs by name, as arrays, and returns float[rows, D] or a dict of such arrays. Where it
            takes no input and needs no argument, it is called, and returns that function, or a pair of it and
            a dict of its inputs' types. Weights are closed over, or bound by `functools.partial`.
        model_yaml: The declaration. The function becomes the file of its `jax` runtime; of several, of the
            one whose file has the function's name. What else it names lies beside it.
        target: The folder to make.

    Raises:
        ModelError: `target` exists, or the function cannot be imported or exported, takes or gives other
            arrays than are declared, or does more than compute.
        SpecError: `model_yaml` is wrong, or has no runtime for the function.
        MissingExtra: JAX is not installed.
    """
    spec = load_model_spec(model_yaml)
    section = _section(spec, function, model_yaml)
    jax_library()
    with new_package(target) as folder:
        lay_out(spec, model_yaml, folder, without={section.file})
        file = folder / section.file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_exported(function, _request(function, spec, section, folder, model_yaml)))
        _check_artifact(function, read_artifact(file), spec, section)
        make_goldens(ModelPackage.open(folder))
    return ModelPackage.open(target)


def _section(spec: ModelSpec, function: str, model_yaml: Path) -> JaxSpec:
    sections = [runtime for runtime in spec.runtimes if isinstance(runtime, JaxSpec)]
    called = function.rpartition(":")[2].rpartition(".")[2]
    mine = [each for each in sections if len(sections) == 1 or PurePosixPath(each.file).stem == called]
    if not sections:
        raise SpecError(
            f"{model_yaml}: declares no runtime jax, and {function} is a function",
            hint="write `runtimes: [{kind: jax, file: model.jax}]`",
        )
    if len(mine) != 1:
        files = ", ".join(each.file for each in sections)
        raise SpecError(
            f"{model_yaml}: declares several runtimes jax, with {files}",
            hint=f"name the file {called}.jax of the one that {function} becomes",
        )
    if spec.precision not in PRECISIONS:
        raise SpecError(
            f"{model_yaml}: JAX is not asked for precision {spec.precision}",
            hint=f"it knows: {', '.join(PRECISIONS)}",
        )
    return mine[0]


def _request(function: str, spec: ModelSpec, section: JaxSpec, folder: Path, model_yaml: Path) -> Request:
    encoders = {str(name): spec.encoders[name] for name in section.encoders or spec.encoders}
    arrays = arrays_of(encoders, folder, said_by=str(model_yaml))
    return Request(
        function=function,
        arguments=arrays.arguments,
        longest=arrays.longest,
        platforms=list(section.platforms),
        precision=spec.precision,
    )


def _exported(function: str, request: Request) -> bytes:
    """The artifact, made by a child process; whatever the user's code prints goes to stderr."""
    with tempfile.TemporaryDirectory(prefix="embedmill-export-") as folder:
        scratch = Path(folder)
        (scratch / REQUEST).write_text(json.dumps(request), "utf-8")
        command = [sys.executable, "-P", "-m", "embedmill.model.jax_lowering", str(scratch)]
        environment = {"JAX_PLATFORMS": "cpu", **os.environ}
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=STDERR, env=environment, check=False)
        if done.returncode == 0:
            return (scratch / ARTIFACT).read_bytes()
        if (scratch / PROBLEM).is_file():
            problem: Problem = json.loads((scratch / PROBLEM).read_text("utf-8"))
            raise ModelError(problem["message"], hint=problem["hint"])
    how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
    raise ModelError(f"{function}: the process that exports it ended with {how}")


def _check_artifact(function: str, artifact: Artifact, spec: ModelSpec, section: JaxSpec) -> None:
    output = choose_output(artifact.outputs, section.output, said_by=function)
    if output.shape != (ROWS, spec.dimension) or "float" not in output.dtype:
        wanted = TensorSpec(output.name, "float32", (ROWS, spec.dimension))
        raise ModelError(
            f"{function}: gives {output}, and model.yaml declares {wanted}",
            hint="pool over tokens in the function, correct `dimension`, or name another `output`",
        )
    if artifact.rounded and spec.precision == "float32" and section.platforms != ("cpu",):
        raise ModelError(
            f"{function}: lets multiplications be rounded, and the declared precision is float32",
            hint="leave `precision` out of its multiplications, or declare tf32 or bfloat16 in model.yaml",
        )
