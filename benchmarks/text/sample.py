"""Real texts: what Debian says of its packages, and always the same of them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FIELDS = ("Package", "Description", "Section", "Tag")


class TextsMissing(Exception):
    """There are too few texts here; says what to do."""


def write_sample(file: Path, count: int) -> list[str]:
    """Write `id` and `text` of so many packages to a Parquet file, in no order of length; the texts."""
    texts = sampled(described(dumped()), count)
    pq.write_table(pa.table({"id": list(map(str, range(count))), "text": texts}), file)
    return texts


def dumped() -> str:
    """All that apt knows of packages.

    Raises:
        TextsMissing: There is no apt here.
    """
    if shutil.which("apt-cache") is None:
        raise TextsMissing("the texts are those of `apt-cache dumpavail`: it needs a Debian or Ubuntu")
    return subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout


def described(dump: str) -> Iterator[str]:
    """A text of each package: name, first line of its description, section and tags."""
    for stanza in dump.split("\n\n"):
        fields = _fields(stanza)
        if fields.get("Package") and fields.get("Description"):
            yield ". ".join(fields[name] for name in FIELDS if fields.get(name))


def _fields(stanza: str) -> dict[str, str]:
    """The first line of each field; of tags all lines."""
    found: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if not line.startswith(" "):
            name, _, value = line.partition(":")
            name = name.removesuffix("-en")
            found[name] = value.strip()
        elif name == "Tag":
            found[name] += f" {line.strip()}"
    return found


def sampled(texts: Iterator[str], count: int) -> list[str]:
    """So many different ones, chosen and ordered by their digests.

    Raises:
        TextsMissing: There are fewer.
    """
    found = sorted(set(texts), key=lambda text: hashlib.sha256(text.encode()).digest())
    if len(found) < count:
        raise TextsMissing(f"{len(found)} texts, and {count} are wanted: `apt-get update` gets Debian's")
    return found[:count]
