"""Dockerfiles of images for workers, as hadolint reads them: every image, and all that a house can choose."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.deploy_group.test_dockerfile import BASE, findings

from embedmill.deploy.worker_image import VARIANTS, Settings, render_image


@pytest.fixture
def house(tmp_path: Path) -> Settings:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "a-1-py3-none-any.whl").touch()
    mirror = "mirror.internal/hub"
    return Settings(BASE, "0.1.0", mirror, tmp_path / "wheels", tmp_path / "ca.pem", user=1234)


@pytest.mark.parametrize("name", VARIANTS)
def test_hadolint_finds_nothing(name: str, tmp_path: Path, house: Settings) -> None:
    render_image(tmp_path / "plain", VARIANTS[name], Settings(BASE))
    render_image(tmp_path / "house", VARIANTS[name], house)
    assert findings(tmp_path / "plain" / "Dockerfile") == ""
    assert findings(tmp_path / "house" / "Dockerfile") == ""
