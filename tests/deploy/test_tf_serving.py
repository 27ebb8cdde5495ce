"""Model repositories of TensorFlow Serving, laid out without TensorFlow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from tests.models import tiny_text_package
from tests.support.mill import Mill, items

from embedmill import Release
from embedmill.deploy.tf_serving import deploy_tf_serving
from embedmill.errors import SpecError

SAVED_MODEL = Path(__file__).parents[1] / "data" / "saved_model"


@pytest.fixture
def release(tmp_path: Path) -> Release:
    """A release whose package has a SavedModel, too, for its items."""
    model = tiny_text_package(tmp_path / "tiny")
    shutil.copytree(SAVED_MODEL, model / "saved_model")
    document = yaml.safe_load((model / "model.yaml").read_text())
    document["runtimes"].append(
        {"kind": "tensorflow", "folder": "saved_model", "signature": "serve_items", "encoders": ["item"]}
    )
    (model / "model.yaml").write_text(yaml.safe_dump(document))
    mill = Mill(tmp_path, model)
    mill.run(items(20))
    return mill.live()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_the_saved_model_lies_under_the_number_and_is_pinned(release: Release, tmp_path: Path) -> None:
    report = deploy_tf_serving(release, tmp_path / "repository", base_path="/models")
    (model,) = report.models
    assert (model.model, model.signature, report.number) == ("test-item", "serve_items", 1)
    assert contents(tmp_path / "repository" / "test-item" / "1") == contents(SAVED_MODEL)
    assert (
        (tmp_path / "repository" / "models.config").read_text()
        == """\
model_config_list {
  config {
    name: "test-item"
    base_path: "/models/test-item"
    model_platform: "tensorflow"
    model_version_policy {
      specific {
        versions: 1
      }
    }
  }
}
"""
    )


def test_a_second_call_changes_nothing_and_another_model_is_refused(release: Release, tmp_path: Path) -> None:
    deploy_tf_serving(release, tmp_path / "repository")
    deploy_tf_serving(release, tmp_path / "repository")
    base = str(tmp_path / "repository" / "test-item")
    assert f'base_path: "{base}"' in (tmp_path / "repository" / "models.config").read_text()
    file = next((tmp_path / "repository").rglob("saved_model.pb"))
    file.chmod(0o644)
    file.write_bytes(b"other")
    with pytest.raises(SpecError, match="is there already"):
        deploy_tf_serving(release, tmp_path / "repository")
