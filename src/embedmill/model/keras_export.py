"""Makes a SavedModel of a `.keras` file, in a process that can do nothing else."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from embedmill.errors import MissingExtra, ModelError
from embedmill.model.keras_archive import check_keras_archive
from embedmill.model.keras_child import EXPORTED, REFUSED, SOURCE

DEADLINE_S = 1800.0
HANDED_ON = ("LD_LIBRARY_PATH", "PYTHONPATH")
"""Of the environment, which may have secrets, only what a Python needs to start."""


def export_keras(file: Path, scratch: Path) -> Path:
    """The SavedModel that `model.export` makes of a `.keras` file, in the empty folder `scratch`.

    The file is checked first (`check_keras_archive`). Then, in a process without network, other programs or
    secrets, which writes nowhere but in `scratch` and reads no home folder, as far as the kernel knows how
    (Linux 5.13), its weights are checked (`check_weights`), and Keras loads it in safe mode.

    Raises:
        ModelError: It is no such file, or not of Keras's own layers alone, or Keras cannot load or export it.
        MissingExtra: TensorFlow or Keras is not installed.
    """
    check_keras_archive(file)
    if importlib.util.find_spec("keras") is None or importlib.util.find_spec("tensorflow") is None:
        raise MissingExtra("TensorFlow with Keras", extra="tensorflow")
    scratch = scratch.resolve()
    shutil.copyfile(file, scratch / SOURCE)
    command = [sys.executable, "-P", "-m", "embedmill.model.keras_child", str(scratch)]
    try:
        done = subprocess.run(
            command,
            env=_environment(scratch),
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{file}: Keras did not export it within {DEADLINE_S:.0f} s") from error
    if done.returncode != 0:
        said = (done.stdout.strip() or done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        if done.returncode == REFUSED:
            raise ModelError(
                f"{file}: {said}", hint="weights may not refer to other files: save the model anew"
            )
        raise ModelError(f"{file}: Keras cannot export it: {said}")
    return scratch / EXPORTED


def _environment(scratch: Path) -> dict[str, str]:
    handed_on = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
    return handed_on | {
        "CUDA_VISIBLE_DEVICES": "-1",
        "HOME": str(scratch),
        "KERAS_BACKEND": "tensorflow",
        "KERAS_HOME": str(scratch),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TMPDIR": str(scratch),
    }
