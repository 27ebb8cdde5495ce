"""`python -m embedmill.model.keras_child SCRATCH`: exports SCRATCH/model.keras to SCRATCH/saved_model.

It says on standard output why it could not, in a line, and then fails: with REFUSED, where the file's weights
lie elsewhere and Keras was not asked.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from embedmill.decoding.confinement import confine_to, die_with_parent
from embedmill.model.keras_weights import check_weights

SOURCE, EXPORTED = "model.keras", "saved_model"
REFUSED = 3
SYSTEM = ("/usr", "/lib", "/lib64", "/etc", "/proc", "/sys", "/dev/null", "/dev/urandom")
"""Where a Python and its libraries read; a home folder is not among them."""


def main() -> None:
    """Load and export, confined before the first library is imported."""
    scratch = Path(sys.argv[1])
    die_with_parent()
    places = [sys.prefix, sys.base_prefix, *filter(None, sys.path), *SYSTEM]
    confine_to(scratch, readable=map(Path, places))
    try:
        check_weights(scratch / SOURCE)
    except Exception as error:  # noqa: BLE001 - whatever h5py says of a file is the answer
        print(_line(error).removeprefix("ValueError: "))  # noqa: T201 - the answer
        sys.exit(REFUSED)
    try:
        _export(scratch / SOURCE, scratch / EXPORTED)
    except Exception as error:  # noqa: BLE001 - whatever Keras says of a file is the answer
        print(_line(error))  # noqa: T201 - the answer
        sys.exit(1)


def _export(source: Path, target: Path) -> None:
    import keras

    model: Any = keras.saving.load_model(source, compile=False, safe_mode=True)
    model.export(target, format="tf_saved_model", verbose=False)


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


if __name__ == "__main__":
    main()
