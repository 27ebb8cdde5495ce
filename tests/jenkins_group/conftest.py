"""What the tests of this group need: Debian's groovy, and a Java for it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

OPENED = ("java.lang", "java.util", "java.io", "java.nio.file", "sun.nio.fs", "java.util.concurrent")
QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto"
"""For programs that live for seconds."""


@pytest.fixture(scope="session")
def groovy() -> dict[str, str]:
    """The environment that `groovy` needs; skips where it is not installed."""
    java = shutil.which("java")
    if shutil.which("groovy") is None or java is None:
        pytest.skip("groovy or java is not installed")
    opened = " ".join(f"--add-opens=java.base/{each}=ALL-UNNAMED" for each in OPENED)
    home = str(Path(java).resolve().parents[1])
    return {**os.environ, "JAVA_HOME": home, "JAVA_OPTS": f"{opened} {QUICK} -Dfile.encoding=UTF-8"}
