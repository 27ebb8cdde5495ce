"""Which pipelines `--all` means."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedmill.errors import SpecError
from embedmill.platform.finding import clashes, find_pipelines, names_apart


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


def spec(file: Path, name: str, store: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    catalog = "{source: items.parquet, id: sku, display: []}"
    file.write_text(f"name: {name}\ncatalog: {catalog}\nmodel: model\nstore: {store}\n")
    return file


@pytest.mark.parametrize("store", ["../mill", "{root}/mill", "file://{root}/b/../mill", "../b/../mill/"])
def test_two_files_that_are_one_pipeline_in_the_store_are_both_told_of(tmp_path: Path, store: str) -> None:
    first = spec(tmp_path / "a" / "pipeline.yaml", "shoes", "../mill")
    (tmp_path / "b").mkdir()
    second = spec(tmp_path / "b" / "pipeline.yaml", "shoes", store.format(root=tmp_path))
    other = spec(tmp_path / "c" / "pipeline.yaml", "boots", "../mill")
    found = clashes([first, second, other])
    assert set(found) == {first, second}
    for error in found.values():
        assert f"{first} and {second}: both are pipeline 'shoes'" in error.message


def test_two_buckets_are_one_however_the_slash(tmp_path: Path) -> None:
    files = [
        spec(tmp_path / "a" / "pipeline.yaml", "shoes", "s3://bucket/x"),
        spec(tmp_path / "b" / "pipeline.yaml", "shoes", "s3://bucket/x/"),
    ]
    assert set(clashes(files)) == set(files)


def test_equal_names_in_two_stores_and_two_names_in_one_are_fine(tmp_path: Path) -> None:
    files = [
        spec(tmp_path / "a" / "pipeline.yaml", "shoes", "./mill"),
        spec(tmp_path / "b" / "pipeline.yaml", "shoes", "./mill"),
        spec(tmp_path / "c" / "pipeline.yaml", "boots", "../a/mill"),
    ]
    assert clashes(files) == {}


def test_one_file_named_in_two_ways_is_one_pipeline(tmp_path: Path) -> None:
    file = spec(tmp_path / "a" / "pipeline.yaml", "shoes", "../mill")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    again = tmp_path / "a" / ".." / "a" / "pipeline.yaml"
    assert find_pipelines([file, again, tmp_path / "link" / "pipeline.yaml"]) == [file]


def test_only_names_that_several_have_get_their_files() -> None:
    named = [("shoes", "a/p.yaml"), ("shoes", "b/p.yaml"), ("boots", "c/p.yaml")]
    assert names_apart(named) == ["shoes (a/p.yaml)", "shoes (b/p.yaml)", "boots"]
