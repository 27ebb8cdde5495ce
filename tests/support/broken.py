"""Releases whose bytes are all as their manifest says, and which are wrong all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from embedmill.release.integrity import FETCHED
from embedmill.release.layout import CONTENT, MANIFEST
from embedmill.spec.document import canonical_json, sha256
from embedmill.spec.documents import Manifest


def exchange(folder: Path, path: str, data: bytes) -> None:
    """Give a release's file other bytes, and let CONTENT and MANIFEST vouch for them."""
    _write(folder / path, data)
    content = json.loads((folder / CONTENT).read_bytes())
    _vouch(content, path, data)
    _write(folder / CONTENT, canonical_json(content))
    manifest = json.loads((folder / MANIFEST).read_bytes())
    _vouch(manifest, path, data)
    _vouch(manifest, CONTENT, canonical_json(content))
    sealed = Manifest.from_bytes(canonical_json(manifest), "manifest").sealed()
    _write(folder / MANIFEST, sealed.to_bytes())
    (folder / FETCHED).unlink(missing_ok=True)


def _vouch(value: Any, path: str, data: bytes) -> None:
    if isinstance(value, list):
        for each in value:
            _vouch(each, path, data)
    elif isinstance(value, dict):
        if value.get("path") == path:
            value |= {"sha256": sha256(data), "size_bytes": len(data)}
        for each in value.values():
            _vouch(each, path, data)


def _write(file: Path, data: bytes) -> None:
    file.unlink()
    file.write_bytes(data)
