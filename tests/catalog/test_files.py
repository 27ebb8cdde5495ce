"""Which files a source means, local and in the store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.catalog.reading import OpenCatalog, rows

from embedmill.catalog.files import matches_glob
from embedmill.errors import CatalogError, CatalogUnavailable, SpecError
from embedmill.store import Store, open_store
from embedmill.store.local import LocalStore
from embedmill.store.memory import MemoryStore

CSV = b"id\n1\n"


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(CSV)


def names(catalog: OpenCatalog, source: str, **spec: object) -> list[str]:
    return [file.name for file in catalog(source, **spec).files]


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else LocalStore(tmp_path / "store")


def test_a_file_a_folder_and_a_glob_find_their_files_in_order_of_name(
    tmp_path: Path, catalog: OpenCatalog
) -> None:
    put(
        tmp_path,
        "items/b.csv",
        "items/a.csv",
        "items/deep/c.csv",
        "items/.hidden.csv",
        "items/_SUCCESS",
        "x.csv",
    )
    assert names(catalog, "x.csv") == ["x.csv"]
    assert names(catalog, "items") == ["items/a.csv", "items/b.csv"]
    assert names(catalog, "./items/") == ["items/a.csv", "items/b.csv"]
    assert names(catalog, "items/*.csv") == ["items/a.csv", "items/b.csv"]
    assert names(catalog, "items/**/*.csv") == ["items/a.csv", "items/b.csv", "items/deep/c.csv"]
    assert names(catalog, str(tmp_path / "items")) == [
        str(tmp_path / "items/a.csv"),
        str(tmp_path / "items/b.csv"),
    ]
    assert names(catalog, str(tmp_path / "it*/b.csv")) == [str(tmp_path / "items/b.csv")]


def test_a_name_with_glob_characters_is_that_file(tmp_path: Path, catalog: OpenCatalog) -> None:
    put(tmp_path, "items[1].csv", "items1.csv")
    assert names(catalog, "items[1].csv") == ["items[1].csv"]


def test_a_folder_may_hold_other_things(tmp_path: Path, catalog: OpenCatalog) -> None:
    put(tmp_path, "items/a.csv", "items/README.md", "items/images/a.png")
    assert names(catalog, "items") == ["items/a.csv"]


def test_endings_tell_the_format_in_any_case(tmp_path: Path, catalog: OpenCatalog) -> None:
    put(tmp_path, "a.CSV", "b.tsv")
    (tmp_path / "c.Jsonl").write_text('{"id": "1"}')
    (tmp_path / "d.ndjson").write_text('{"id": "1"}')
    assert all(rows(catalog(name)) == [{"id": "1"}] for name in ("a.CSV", "b.tsv", "c.Jsonl", "d.ndjson"))


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.pq", "a.arrow", "a.ipc", "a.feather", "a.arrows", "a.csv.gz"]
)
def test_a_file_that_is_not_what_its_ending_says_is_named(
    name: str, tmp_path: Path, catalog: OpenCatalog
) -> None:
    put(tmp_path, name)
    with pytest.raises(CatalogError, match=f"^{name}: cannot be read as "):
        catalog(name)


def test_mixed_formats_are_refused_with_an_example_of_each(tmp_path: Path, catalog: OpenCatalog) -> None:
    put(tmp_path, "items/a.csv", "items/b.jsonl")
    with pytest.raises(CatalogError, match=r"files of several formats: items/a\.csv and items/b\.jsonl"):
        catalog("items")
    assert names(catalog, "items", format="csv") == ["items/a.csv"]


def test_a_declared_format_goes_for_any_name(tmp_path: Path, catalog: OpenCatalog) -> None:
    put(tmp_path, "export/part-0000", "export/part-0001")
    assert names(catalog, "export/part-*", format="csv") == ["export/part-0000", "export/part-0001"]
    assert names(catalog, "export/part-0000", format="csv") == ["export/part-0000"]


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("item.csv", "item.csv does not exist", "did you mean .*/items.csv"),
        ("nowhere/items.csv", "nowhere/items.csv does not exist", "the path; it is relative to"),
        ("*.parquet", r"'\*\.parquet' matches no file", "correct the pattern"),
        ("items.xlsx", "no file of a known format", "set catalog.format"),
        ("empty", "no file of a known format", "sub-folders"),
    ],
)
def test_a_source_that_finds_nothing_says_so_and_what_to_do(
    source: str, message: str, hint: str, tmp_path: Path, catalog: OpenCatalog
) -> None:
    put(tmp_path, "items.csv", "items.xlsx", "empty/deeper/a.csv")
    with pytest.raises(CatalogError, match=message) as caught:
        catalog(source)
    caught.match(hint)
    assert "\n" not in str(caught.value)


def test_a_file_has_its_size_and_a_version_that_changes_with_it(tmp_path: Path, catalog: OpenCatalog) -> None:
    put(tmp_path, "items.csv")
    (before,) = catalog("items.csv").files
    assert before.size_bytes == len(CSV)
    assert catalog("items.csv").files == (before,)
    os.utime(tmp_path / "items.csv", ns=(0, 12345))
    (after,) = catalog("items.csv").files
    assert after.version != before.version


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path, catalog: OpenCatalog) -> None:
    put(tmp_path, "items.csv")
    reader = catalog("items.csv")
    with (tmp_path / "items.csv").open("ab") as more:
        more.write(b"2\n")
    with pytest.raises(CatalogUnavailable, match=r"items\.csv: changed while it was read"):
        list(reader.batches())


def test_a_file_that_vanishes_is_an_error(tmp_path: Path, catalog: OpenCatalog) -> None:
    put(tmp_path, "items.csv")
    reader = catalog("items.csv")
    (tmp_path / "items.csv").unlink()
    with pytest.raises(CatalogUnavailable, match=r"items\.csv: no such file"):
        list(reader.batches())


def test_objects_of_the_store_are_found_as_files_are(store: Store, catalog: OpenCatalog) -> None:
    for key in ("in/b.csv", "in/a.csv", "in/deep/c.csv", "in/_SUCCESS", "in/.hidden.csv", "inside.csv"):
        store.put(key, CSV)
    assert names(catalog, "store:inside.csv", store=store) == ["store:inside.csv"]
    assert names(catalog, "store:in", store=store) == ["store:in/a.csv", "store:in/b.csv"]
    assert names(catalog, "store:in/*.csv", store=store) == ["store:in/a.csv", "store:in/b.csv"]
    assert names(catalog, "store:**/*.csv", store=store) == [
        "store:in/a.csv",
        "store:in/b.csv",
        "store:in/deep/c.csv",
        "store:inside.csv",
    ]


def test_objects_are_read_and_have_their_etag(store: Store, catalog: OpenCatalog) -> None:
    etag = store.put("in/a.csv", b"id\n7\n")
    reader = catalog("store:in", store=store)
    assert rows(reader) == [{"id": "7"}]
    assert [(file.size_bytes, file.version) for file in reader.files] == [(5, etag)]


def test_a_store_source_that_finds_nothing_says_so(store: Store, catalog: OpenCatalog) -> None:
    for source in ("store:nothing.csv", "store:in/*.csv"):
        with pytest.raises(CatalogError, match="matches no object"):
            catalog(source, store=store)
    with pytest.raises(SpecError, match="needs a store"):
        catalog("store:in")


GLOBS = [
    ("*.csv", "a.csv b.csv"),
    ("**", "a.csv b.csv d/a.csv d/e/f/g.csv d/e/h.json"),
    ("**/*.csv", "a.csv b.csv d/a.csv d/e/f/g.csv"),
    ("d/**", "d/a.csv d/e/f/g.csv d/e/h.json"),
    ("d/*/*.json", "d/e/h.json"),
    ("?.csv", "a.csv b.csv"),
    ("[b-z].csv", "b.csv"),
    ("d/**/g.csv", "d/e/f/g.csv"),
    (".*/*", ".x/i.csv"),
    ("*/*", "d/a.csv"),
]


@pytest.mark.parametrize(("pattern", "expected"), GLOBS)
def test_globs_find_the_same_in_a_store_as_in_a_folder(
    pattern: str, expected: str, tmp_path: Path, catalog: OpenCatalog
) -> None:
    keys = ["a.csv", "b.csv", "d/a.csv", "d/e/f/g.csv", "d/e/h.json", ".x/i.csv", "d/.y/j.csv"]
    assert [key for key in sorted(keys) if matches_glob(key, pattern)] == expected.split()
    put(tmp_path, *keys)
    assert names(catalog, pattern, format="csv") == expected.split()


def test_the_store_of_a_url_is_the_same_store(tmp_path: Path, catalog: OpenCatalog) -> None:
    open_store(str(tmp_path / "mill")).put("in/a.csv", CSV)
    assert rows(catalog("store:in/a.csv", store=open_store(str(tmp_path / "mill")))) == [{"id": "1"}]
