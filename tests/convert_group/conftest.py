"""Folders with a module of a text model; see `user_functions`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.convert_group.user_functions import furnished


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Such a folder, where one works."""
    monkeypatch.chdir(furnished(tmp_path / "shop"))
    return tmp_path / "shop"


@pytest.fixture
def here(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same folder, for the child's work being done in this process, which starts no other."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield shop
    sys.modules.pop("textmodel", None)
