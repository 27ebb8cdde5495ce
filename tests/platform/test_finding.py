"""Which pipelines `--all` means."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedmill.errors import SpecError
from embedmill.platform.finding import find_pipelines


def pipeline(root: Path, *folders: str) -> Path:
    file = root.joinpath(*folders, "pipeline.yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("name: x\n")
    return file


def test_every_pipeline_below_a_folder_is_found_once_and_in_order(tmp_path: Path) -> None:
    files = [pipeline(tmp_path), pipeline(tmp_path, "b", "deep"), pipeline(tmp_path, "c")]
    pipeline(tmp_path, ".hidden")
    assert find_pipelines([tmp_path, tmp_path / "c"]) == files


def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    file = pipeline(tmp_path).rename(tmp_path / "other.yaml")
    assert find_pipelines([file]) == [file]


@pytest.mark.parametrize("path", ["nowhere", "empty"])
def test_nothing_found_is_an_error_that_says_where(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError, match=path):
        find_pipelines([tmp_path / path])
