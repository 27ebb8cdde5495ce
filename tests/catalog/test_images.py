"""Images: an identity that changes with the content, and bytes that never come from outside the root."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pyarrow as pa
import pytest

from embedmill.catalog import ImageSource
from embedmill.errors import CatalogError, SpecError
from embedmill.spec import CatalogSpec
from embedmill.store import Store
from embedmill.store.local import LocalStore
from embedmill.store.memory import MemoryStore
from embedmill.types import Reason, Rejection


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "images" / "a.png").write_bytes(b"A")
    (tmp_path / "images" / "deep" / "b.png").write_bytes(b"BB")
    (tmp_path / "secret").write_bytes(b"secret")
    return tmp_path


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else LocalStore(tmp_path / "store")


def source(
    root: Path, images: str | None = "images", store: Store | None = None, read: str = "items.csv"
) -> ImageSource:
    return ImageSource(CatalogSpec(source=read, id="id", images=images), root=root, store=store)


def fetched(images: ImageSource, *references: str | None) -> list[bytes | Reason | None]:
    contents, rejected = images.fetch(pa.array(references, pa.string()), None)
    return [
        rejected[row].reason if row in rejected else value for row, value in enumerate(contents.to_pylist())
    ]


def test_bytes_are_identified_by_their_content_and_fetched_as_they_are(tmp_path: Path) -> None:
    column = pa.array([b"x", b"", None, b"y", b"x"], pa.binary())
    identities = source(tmp_path).identity(column).values
    digest = hashlib.sha256(b"x").digest()
    assert identities.to_pylist()[:3] == [b"b1" + digest, None, None]
    assert identities[0] == identities[4] != identities[3]
    contents, rejected = source(tmp_path).fetch(column, identities)
    assert contents.to_pylist() == [b"x", None, None, b"y", b"x"]
    assert rejected == {}


def test_bytes_that_are_others_than_planned_are_rejected(tmp_path: Path) -> None:
    planned = source(tmp_path).identity(pa.array([b"x", b"y"])).values
    contents, rejected = source(tmp_path).fetch(pa.array([b"x", b"z"]), planned)
    assert contents.to_pylist() == [b"x", None]
    assert rejected == {1: Rejection(Reason.SOURCE_CHANGED, "the image's bytes: changed since the plan")}


def test_files_are_identified_by_reference_size_and_time(folder: Path) -> None:
    os.utime(folder / "images/a.png", ns=(0, 5))
    found = source(folder).identity(pa.array(["a.png", "deep/b.png", "", None])).values
    expected = b"p1" + (5).to_bytes(4, "big") + b"a.png" + (1).to_bytes(8, "big") + (5).to_bytes(8, "big")
    assert found[0].as_py() == expected
    assert found[1].is_valid
    assert found.to_pylist()[2:] == [None, None]


def test_an_identity_changes_with_size_time_and_presence(folder: Path) -> None:
    image = folder / "images" / "a.png"

    def identity() -> bytes:
        return bytes(source(folder).identity(pa.array(["a.png"])).values[0].as_py())

    seen = [identity()]
    os.utime(image, ns=(0, 7))
    seen.append(identity())
    image.write_bytes(b"longer")
    os.utime(image, ns=(0, 7))
    seen.append(identity())
    image.unlink()
    seen.append(identity())
    assert len(set(seen)) == 4
    assert seen[3] == b"m1a.png"


def test_files_are_fetched_and_empty_references_have_no_image(folder: Path) -> None:
    assert fetched(source(folder), "a.png", None, "deep/b.png", "", "./a.png") == [
        b"A",
        None,
        b"BB",
        None,
        b"A",
    ]


def test_many_images_keep_their_rows(tmp_path: Path) -> None:
    for i in range(500):
        (tmp_path / f"{i}").write_bytes(str(i).encode())
    names = [str(i) for i in range(500)]
    assert fetched(source(tmp_path, "."), *names) == [name.encode() for name in names]
    identities = source(tmp_path, ".").identity(pa.array(names)).values
    assert [f"{i}".encode() in found for i, found in enumerate(identities.to_pylist())] == [True] * 500


def test_dictionary_columns_are_columns(folder: Path) -> None:
    column = pa.array(["a.png", "a.png"]).dictionary_encode()
    assert source(folder).fetch(column, source(folder).identity(column).values)[0].to_pylist() == [b"A", b"A"]


OUTSIDE = [
    "../secret",
    "deep/../../secret",
    "deep/../a.png",
    "/etc/passwd",
    "link-to-secret",
    "link-to-parent/secret",
    "link-to-link",
]


@pytest.fixture
def with_links(folder: Path) -> Path:
    images = folder / "images"
    (images / "link-to-secret").symlink_to("../secret")
    (images / "link-to-parent").symlink_to("..")
    (images / "link-to-link").symlink_to("link-to-secret")
    (images / "link-inside").symlink_to("deep/b.png")
    (images / "folder-inside").symlink_to("deep")
    return folder


@pytest.mark.parametrize("reference", OUTSIDE)
def test_a_reference_that_leads_out_of_the_root_is_never_read(reference: str, with_links: Path) -> None:
    images = source(with_links)
    contents, rejected = images.fetch(pa.array(["a.png", reference]), None)
    assert contents.to_pylist() == [b"A", None]
    assert rejected[1].reason == Reason.IMAGE_MISSING
    assert "out of the image folder" in rejected[1].detail
    assert images.identity(pa.array([reference])).values[0].as_py() == b"m1" + reference.encode()


def test_links_inside_the_root_are_followed_also_where_the_root_is_a_link(with_links: Path) -> None:
    (with_links / "alias").symlink_to("images")
    for root in ("images", "alias", str(with_links / "alias")):
        assert fetched(source(with_links, root), "link-inside", "folder-inside/b.png") == [b"BB", b"BB"]


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("none.png", "no such file or directory"),
        ("deep", "not a file"),
        ("a.png/x", "not a directory"),
        ("none/x.png", "no such file or directory"),
        ("loop", "too many levels"),
        ("pipe", "not a file"),
        ("n" * 300, "file name too long"),
        ("nul\0.png", "out of the image folder"),
    ],
)
def test_a_reference_to_no_file_is_rejected_with_the_reason(reference: str, why: str, folder: Path) -> None:
    (folder / "images" / "loop").symlink_to("loop")
    os.mkfifo(folder / "images" / "pipe")
    contents, rejected = source(folder).fetch(pa.array([reference]), None)
    assert contents.to_pylist() == [None]
    assert rejected[0].reason == Reason.IMAGE_MISSING
    assert why in rejected[0].detail.lower() or why in rejected[0].detail


def test_an_image_that_changed_since_the_plan_is_rejected(folder: Path) -> None:
    (folder / "images" / "late.png").touch()
    column = pa.array(["a.png", "deep/b.png", "none.png", "late.png"])
    planned = source(folder).identity(column).values
    (folder / "images" / "a.png").write_bytes(b"other")
    (folder / "images" / "late.png").unlink()
    (folder / "images" / "none.png").write_bytes(b"here now")
    contents, rejected = source(folder).fetch(column, planned)
    assert contents.to_pylist() == [None, b"BB", None, None]
    assert {row: found.reason for row, found in rejected.items()} == {
        0: Reason.SOURCE_CHANGED,
        2: Reason.SOURCE_CHANGED,
        3: Reason.IMAGE_MISSING,
    }


def test_an_image_that_was_and_is_missing_is_missing(folder: Path) -> None:
    column = pa.array(["none.png"])
    _, rejected = source(folder).fetch(column, source(folder).identity(column).values)
    assert rejected[0].reason == Reason.IMAGE_MISSING


def test_a_root_that_is_gone_is_an_error_and_not_a_million_missing_images(tmp_path: Path) -> None:
    images = source(tmp_path, "nowhere")
    assert images.identity(pa.array([None, ""])).values.to_pylist() == [None, None]
    with pytest.raises(CatalogError, match=r"image folder .*/nowhere does not exist"):
        images.identity(pa.array(["a.png"]))
    with pytest.raises(CatalogError, match=r"image folder .*/nowhere does not exist"):
        images.fetch(pa.array(["a.png"]), None)


@pytest.mark.parametrize("read", ["images/items.csv", "images", "images/*.csv", "images/**/*.csv"])
def test_without_images_references_start_from_the_folder_of_the_source(read: str, folder: Path) -> None:
    (folder / "images" / "items.csv").touch()
    assert fetched(source(folder, None, read=read), "a.png", "deep/b.png") == [b"A", b"BB"]
    assert fetched(source(folder, None, read=str(folder / read)), "a.png") == [b"A"]


def test_columns_of_other_types_are_refused(folder: Path) -> None:
    with pytest.raises(CatalogError, match="image column 'photo' is int64"):
        source(folder).identity(pa.array([1]), name="photo")
    with pytest.raises(CatalogError, match="image column 'photo' is list<item: string>"):
        source(folder).fetch(pa.array([["a.png"]]), None, name="photo")


def test_objects_are_identified_by_their_etag_and_fetched(store: Store, tmp_path: Path) -> None:
    etag = store.put("pictures/a.png", b"A")
    images = source(tmp_path, "store:pictures", store)
    identities = images.identity(pa.array(["a.png", "none.png", None])).values
    assert identities.to_pylist() == [
        b"k1" + (5).to_bytes(4, "big") + b"a.png" + etag.encode(),
        b"m1none.png",
        None,
    ]
    assert fetched(images, "a.png", "none.png", None) == [b"A", Reason.IMAGE_MISSING, None]


@pytest.mark.parametrize("reference", ["../other/b.png", "/other/b.png", "x/../../other/b.png", "./a.png"])
def test_an_object_outside_the_prefix_is_never_read(reference: str, store: Store, tmp_path: Path) -> None:
    store.put("pictures/a.png", b"A")
    store.put("other/b.png", b"B")
    assert fetched(source(tmp_path, "store:pictures", store), reference) == [Reason.IMAGE_MISSING]


def test_an_object_that_changed_since_the_plan_is_rejected(store: Store, tmp_path: Path) -> None:
    store.put("a.png", b"A")
    store.put("b.png", b"B")
    images = source(tmp_path, "store:", store)
    column = pa.array(["a.png", "b.png"])
    planned = images.identity(column).values
    store.put("a.png", b"AA")
    contents, rejected = images.fetch(column, planned)
    assert contents.to_pylist() == [None, b"B"]
    assert rejected == {0: Rejection(Reason.SOURCE_CHANGED, "a.png: changed since the plan")}


@pytest.mark.parametrize("read", ["store:in/items.csv", "store:in", "store:in/*.csv", "store:in/**/*.csv"])
def test_without_images_keys_start_from_the_prefix_of_the_source(
    read: str, store: Store, tmp_path: Path
) -> None:
    store.put("in/items.csv", b"id\n")
    store.put("in/a.png", b"A")
    assert fetched(source(tmp_path, None, store, read), "a.png") == [b"A"]


def test_images_in_the_store_need_a_store(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="needs a store"):
        source(tmp_path, "store:pictures")
