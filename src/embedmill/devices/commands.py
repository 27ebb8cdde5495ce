"""Programs of this host that may be absent, fail or hang."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import NamedTuple

PATH = os.pathsep.join(
    [os.environ.get("PATH", ""), "/usr/local/bin", "/usr/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"]
)
"""A shell that is no login shell may have less."""


class Said(NamedTuple):
    """What a program said; `code` is None where it could not be started, or was ended."""

    code: int | None
    out: str
    words: str

    @property
    def last_line(self) -> str:
        """Of stderr, or of stdout."""
        lines = (self.words.strip() or self.out.strip()).splitlines()
        return lines[-1].strip() if lines else "no answer"


def found(program: str) -> str | None:
    """Where it is."""
    return shutil.which(program, path=PATH)


def said(*command: str, timeout_s: float = 5.0) -> Said:
    """Run it; it has no terminal and no input, and is not waited for once it is killed."""
    path = found(command[0])
    if path is None:
        return Said(None, "", f"{command[0]} is not installed")
    environment = {**os.environ, "PATH": PATH, "LC_ALL": "C"}
    try:
        process = subprocess.Popen(
            [path, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        out, words = process.communicate(timeout=timeout_s)
    except OSError as error:
        return Said(None, "", f"{command[0]}: {error}")
    except subprocess.TimeoutExpired:
        process.kill()
        return Said(None, "", f"{command[0]} gave no answer in {timeout_s:.0f} s")
    return Said(process.returncode, out.decode(errors="replace"), words.decode(errors="replace"))
