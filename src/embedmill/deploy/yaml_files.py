"""Files of YAML made of values, never of text; and how a folder of files is written.

A text is quoted unless it is plain in every reader of YAML: readers of YAML 1.1, as Kubernetes has, take
`1e3` for a number and `on` for a boolean where PyYAML, which writes, sees a text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from embedmill.errors import SpecError
from embedmill.store.local import translated

PLAIN = re.compile(r"[A-Za-z_/-][A-Za-z0-9_./-]*")
RESERVED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf"}
Resource = dict[str, Any]


class _Dumper(yaml.SafeDumper):
    """Quotes what is not plain, and never writes anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base class has it
        """Write equal values again."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain = PLAIN.fullmatch(value) and value.lower().strip("._-") not in RESERVED
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


_Dumper.add_representer(str, _text)


def yaml_bytes(*documents: Resource) -> bytes:
    """The documents as one file, keys in their order."""
    made: bytes = yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, encoding="utf-8", allow_unicode=True, width=1000
    )
    return made


def write_folder(folder: Path, files: Mapping[str, bytes], *, beside: Collection[str] = ()) -> Sequence[str]:
    """Write files into a folder that is empty or has only files of these names; the names, in order.

    `beside`: names of files that may be there as well.

    Raises:
        SpecError: The folder has something else in it.
        StoreError: It cannot be written.
    """
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    strange = sorted(there - set(files) - set(beside))
    if strange or folder.is_file():
        what = f"has {strange[0]!r}, which would stay" if strange else "is a file"
        raise SpecError(f"{folder}: {what}", hint="choose an empty folder, or remove it")
    with translated(str(folder), writing=True):
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    return sorted(files)
