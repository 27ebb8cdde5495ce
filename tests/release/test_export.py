"""Exports hold the release's vectors beside their ids, in the order of its items; whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.mill import Mill, items

from embedmill.errors import SpecError, StoreError
from embedmill.release.export import export_release
from embedmill.release.reader import Release


@pytest.fixture
def release(mill: Mill) -> Release:
    """A release of 40 items with a vector and one with an empty input, in two segments."""
    mill.run(items(30))
    empty = {"sku": "none", "title": None, "category": None, "price": 1.0}
    mill.run([*items(40), empty])
    return mill.live()


def test_parquet_has_ids_display_columns_and_vectors(release: Release, tmp_path: Path) -> None:
    file = tmp_path / "out" / "items.parquet"
    made = export_release(release, file)
    table = pq.read_table(file)
    assert table.column_names == ["id", "title", "price", "vector"]
    assert table.schema.field("vector").type.list_size == 16
    assert table.equals(release.to_arrow().cast(table.schema))
    assert (made.files, made.items, made.without_vector) == ((file,), 40, 1)
    assert made.size_bytes == file.stat().st_size


def test_lists_are_for_readers_without_fixed_size_lists(release: Release, tmp_path: Path) -> None:
    file = tmp_path / "lists.parquet"
    export_release(release, file, fixed_size=False)
    column = pq.read_table(file).column("vector")
    assert pa.types.is_list(column.type)
    assert column.to_pylist() == release.to_arrow().column("vector").to_pylist()


def test_npy_has_vectors_and_a_file_of_ids_beside_it(release: Release, tmp_path: Path) -> None:
    file = tmp_path / "vectors.npy"
    made = export_release(release, file)
    ids, vectors = release.to_numpy()
    found = np.load(file, mmap_mode="r")
    assert found.dtype == np.float32
    assert np.array_equal(found, vectors)
    assert made.files == (file, tmp_path / "vectors.ids.parquet")
    assert pq.read_table(made.files[1]).column("id").to_pylist() == ids.tolist()


def test_a_folder_gets_parts(release: Release, tmp_path: Path) -> None:
    made = export_release(release, tmp_path / "parts", part_items=1)
    assert [file.name for file in made.files] == ["part-00000.parquet"]
    assert pq.read_table(tmp_path / "parts").equals(
        release.to_arrow().cast(pq.read_schema(tmp_path / "parts" / "part-00000.parquet"))
    )


def test_a_release_without_vectors_exports_its_columns(mill: Mill, tmp_path: Path) -> None:
    mill.run([{"sku": "a", "title": None, "category": None, "price": 2.0}])
    for name in ("x.parquet", "parts"):
        assert export_release(mill.live(), tmp_path / name).items == 0
        assert pq.read_table(tmp_path / name).column_names == ["id", "title", "price", "vector"]
    export_release(mill.live(), tmp_path / "x.npy")
    assert np.load(tmp_path / "x.npy").shape == (0, 16)


@pytest.mark.parametrize("name", ["x.parquet", "x.npy", "parts"])
def test_what_is_there_is_replaced_only_by_force(release: Release, tmp_path: Path, name: str) -> None:
    first = export_release(release, tmp_path / name)
    before = [file.read_bytes() for file in first.files]
    with pytest.raises(SpecError, match="--force"):
        export_release(release, tmp_path / name)
    assert [file.read_bytes() for file in first.files] == before
    assert export_release(release, tmp_path / name, force=True) == first


def test_a_folder_with_anything_else_in_it_is_never_replaced(release: Release, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear")
    with pytest.raises(SpecError, match=r"diary\.txt"):
        export_release(release, tmp_path / "notes", force=True)
    assert (tmp_path / "notes" / "diary.txt").read_text() == "dear"


def test_an_unknown_suffix_names_those_that_are_known(release: Release, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"\.parquet file, an \.npy file, or a folder"):
        export_release(release, tmp_path / "x.csv")


def test_a_failed_export_leaves_nothing_behind(release: Release, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="cannot be written"):
        export_release(release, tmp_path / "file" / "x.parquet")
    (release.folder / release.content.segments[-1].parts[0].path).unlink()
    for name in ("x.parquet", "x.npy", "parts"):
        with pytest.raises(Exception, match="part-"):
            export_release(Release.open(release.folder), tmp_path / "new" / name)
    assert not (tmp_path / "new").exists() or not list((tmp_path / "new").iterdir())
