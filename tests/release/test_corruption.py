"""A release of which any byte was changed is not opened, and the file is named."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.mill import POISON, Mill, items, poisonable_package

from embedmill import Release
from embedmill.errors import ReleaseCorrupt, ReleaseMissing
from embedmill.release.admin import verify
from embedmill.release.folders import release_folder
from embedmill.release.integrity import read_manifest, verify_files
from embedmill.release.layout import CONTENT, MANIFEST
from embedmill.release.log import read_history
from embedmill.spec.documents import FileEntry, Manifest
from embedmill.store.hashing import file_sha256

KINDS = [
    "MANIFEST",
    "CONTENT",
    "gates",
    "report",
    "model",
    "vectors",
    "items",
    "index",
    "goldens",
    "quarantine",
]
Damage = Callable[[Path], None]


@dataclass
class Copied:
    """A whole release outside its store. `hurt` damages one file, refuses to open, and heals it."""

    folder: Path

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def refuses(self, file: Path, damage: Damage) -> None:
        whole = file.read_bytes()
        damage(file)
        absent = file.name == MANIFEST and not file.exists()
        with pytest.raises(ReleaseMissing if absent else ReleaseCorrupt) as caught:
            Release.open(self.folder)
        assert str(file.relative_to(self.folder)) in caught.value.message
        file.write_bytes(whole)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """With an HNSW index, a delta segment, empty and quarantined items, and goldens of both encoders."""
    root = tmp_path_factory.mktemp("published")
    mill = Mill(root, poisonable_package(root / "model"), settings={"index": {"exact_below": 20}})
    first = [*items(40), {"sku": "empty", "title": " "}, {"sku": "bad", "title": POISON}, {"title": "no id"}]
    mill.run(first)
    mill.run([*first[2:], *items(3, start=40)])
    release = mill.live()
    assert [segment.index is not None for segment in release.content.segments] == [True, False]
    assert release.content.quarantined == 2
    assert len(release.content.goldens) == 2
    return release


@pytest.fixture
def copied(published: Release, tmp_path: Path) -> Copied:
    folder = tmp_path / "elsewhere"
    shutil.copytree(published.folder, folder)
    for path in folder.rglob("*"):
        path.chmod(0o755)
    return Copied(folder)


def test_all_damaged_files_are_named_with_what_to_do(copied: Copied) -> None:
    names = [file for file in copied.files() if file.suffix in {".arrow", ".parquet"}]
    for file in names:
        flip(file, file.stat().st_size // 2)
    with pytest.raises(ReleaseCorrupt, match="its bytes are not those that were published") as caught:
        Release.open(copied.folder)
    assert all(str(file.relative_to(copied.folder)) in caught.value.message for file in names)
    assert "roll back to a release that `embedmill release verify` finds whole" in caught.value.hint
    for file in names:
        file.unlink()
    with pytest.raises(ReleaseCorrupt, match="is missing; damaged, too: ") as caught:
        Release.open(copied.folder)
    assert all(file.name in caught.value.message for file in names)


def flip(file: Path, place: int, bit: int = 0) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1 << bit
    file.write_bytes(data)


def append(file: Path, data: bytes) -> None:
    file.write_bytes(file.read_bytes() + data)


def test_the_release_has_every_kind_of_file(copied: Copied) -> None:
    kinds = {file.relative_to(copied.folder).parts[0].split(".")[0] for file in copied.files()}
    assert kinds == set(KINDS)


def test_an_undamaged_copy_opens_and_searches_outside_its_store(copied: Copied) -> None:
    release = Release.open(copied.folder)
    assert release.search(item="s7", k=1)[0].id == "s7"
    assert len(release.to_arrow()) == 41


@pytest.mark.soak(quick=3, large=60)
def test_one_flipped_bit_anywhere_in_any_file_is_refused(copied: Copied, seed: int) -> None:
    chance = random.Random(seed)
    for file in copied.files():
        size = file.stat().st_size
        for place in (0, size // 2, size - 1, chance.randrange(size)):
            bit = chance.randrange(8)
            copied.refuses(file, lambda file, place=place, bit=bit: flip(file, place, bit))  # type: ignore[misc]


LENGTHS: dict[str, Damage] = {
    "a byte less": lambda file: os.truncate(file, file.stat().st_size - 1),
    "empty": lambda file: os.truncate(file, 0),
    "a byte more": lambda file: append(file, b"\n"),
    "deleted": Path.unlink,
}


@pytest.mark.parametrize("damage", LENGTHS)
def test_a_file_of_another_length_or_none_is_refused(copied: Copied, damage: str) -> None:
    for file in copied.files():
        copied.refuses(file, LENGTHS[damage])


def test_a_folder_in_a_files_place_is_refused(copied: Copied) -> None:
    file = next(file for file in copied.files() if "vectors" in file.parts)
    file.unlink()
    file.mkdir()
    with pytest.raises(ReleaseCorrupt, match=file.name):
        Release.open(copied.folder)


def test_a_folder_that_is_no_release_says_so(tmp_path: Path) -> None:
    with pytest.raises(ReleaseMissing, match=f"it has no {MANIFEST}"):
        Release.open(tmp_path)
    with pytest.raises(ReleaseMissing, match="no such release"):
        Release.open(tmp_path / "nothing")
    with pytest.raises(ReleaseMissing, match="no such release"):
        Release.open(tmp_path / "nothing.yaml")


def test_a_pipelines_live_release_is_opened_by_its_spec(mill: Mill) -> None:
    mill.run(items(3))
    mill.run(items(4))
    for file in (mill.root / "pipeline.yaml", str(mill.root / "pipeline.yaml")):
        assert (Release.open(file).name, Release.open(file).number) == (mill.live().name, 2)


def flipped(file: Path) -> None:
    """One bit of a file is another, and neither its size nor its time tells; twice, and all is as before."""
    before = file.stat()
    file.chmod(0o644)
    with file.open("r+b") as handle:
        handle.seek(before.st_size // 2)
        old = handle.read(1)
        handle.seek(before.st_size // 2)
        handle.write(bytes([old[0] ^ 1]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_ino == before.st_ino


def hidden_damage(folder: Path) -> Path:
    """Change a byte of a vector file and keep its size, time and inode, as a failing disk does."""
    file = next((folder / "vectors").rglob("*.arrow"))
    flipped(file)
    return file


def test_a_second_open_trusts_the_stamp_of_the_first(copied: Copied) -> None:
    Release.open(copied.folder)
    hidden_damage(copied.folder)
    assert Release.open(copied.folder).content.embedded == 3


def test_thorough_verification_sees_what_a_stamp_hides_and_spoils_the_stamp(copied: Copied) -> None:
    Release.open(copied.folder)
    file = hidden_damage(copied.folder)
    with pytest.raises(ReleaseCorrupt, match=file.name):
        verify_files(copied.folder, read_manifest(copied.folder), thorough=True)
    with pytest.raises(ReleaseCorrupt, match=file.name):
        Release.open(copied.folder)


@pytest.mark.parametrize("change", ["time", "inode", "elsewhere"])
def test_a_stamp_is_not_trusted_when_time_or_inode_changed_or_for_another_folder(
    copied: Copied, tmp_path: Path, change: str
) -> None:
    Release.open(copied.folder)
    file, folder = hidden_damage(copied.folder), copied.folder
    stat = file.stat()
    if change == "time":
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    elif change == "inode":
        shutil.copy2(file, file.with_suffix(".new"))
        file.with_suffix(".new").rename(file)
    else:
        folder = tmp_path / "moved"
        copied.folder.rename(folder)
    with pytest.raises(ReleaseCorrupt, match=file.name):
        Release.open(folder)


def test_what_publishing_has_hashed_is_not_hashed_when_it_is_opened(mill: Mill) -> None:
    """The second release has its own vectors, and those that it carries over."""
    mill.run(items(20))
    first = mill.live()
    mill.run(items(21))
    home, live = mill.home, read_history(mill.home).live
    assert live is not None
    folder = release_folder(home, live.release)
    carried, own = sorted((folder / "vectors").rglob("*.arrow"))
    assert carried.parent.name == first.name
    assert own.parent.name == live.release
    for file in (carried, own):
        flipped(file)
        assert mill.live().content.embedded == 1
        flipped(file)
    flipped(own)
    with pytest.raises(ReleaseCorrupt, match=own.name):
        verify_files(folder, read_manifest(folder), thorough=True)


@pytest.mark.parametrize("lost", ["its stamp", "the link"])
def test_what_nobody_vouches_for_is_hashed_when_a_published_release_is_opened(
    mill: Mill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """Publishing does not read what is carried over: the base's stamp has to say that it is good."""
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))
    mill.run(items(20))
    run = mill.checked(items(21))
    folder = release_folder(run.home, run.plan.run)
    carried = next(file for file in (folder / "vectors").rglob("*.arrow") if file.parent.name != run.plan.run)
    if lost == "its stamp":
        shutil.rmtree(tmp_path / "cache" / "stamps")
    else:
        shutil.copy2(carried, carried.with_suffix(".new"))
        carried.with_suffix(".new").rename(carried)
    flipped(carried)
    run.publish()
    with pytest.raises(ReleaseCorrupt, match=carried.name):
        mill.live()


@pytest.mark.parametrize("stamp", [b"", b"null", b"{", b"[1]", b"\xff"])
def test_a_damaged_stamp_costs_a_new_check_and_no_more(
    copied: Copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stamp: bytes
) -> None:
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "cache"))
    Release.open(copied.folder)
    (written,) = (tmp_path / "cache" / "stamps").iterdir()
    good = written.read_bytes()
    written.write_bytes(stamp)
    Release.open(copied.folder)
    assert written.read_bytes() == good
    written.write_bytes(stamp)
    next((copied.folder / "vectors").rglob("*.arrow")).unlink()
    with pytest.raises(ReleaseCorrupt, match="is missing"):
        Release.open(copied.folder)


def test_a_cache_that_cannot_be_written_does_not_matter(
    copied: Copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMBEDMILL_CACHE", str(tmp_path / "file"))
    assert Release.open(copied.folder).content.embedded == 3


def resealed(copied: Copied, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest as somebody would who knows how it is sealed."""
    file = copied.folder / MANIFEST
    document = json.loads(file.read_bytes())
    change(document)
    del document["schema"]
    file.write_bytes(Manifest.model_validate(document).sealed().to_bytes())


EDITS: dict[str, Callable[[bytes], bytes]] = {
    "less indentation": lambda text: text.replace(b"\n  ", b"\n "),
    "no blanks": lambda text: text.replace(b": ", b":"),
    "no newline at the end": bytes.rstrip,
    "other line ends": lambda text: text.replace(b"\n", b"\r\n"),
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "a key twice": lambda text: text.replace(b'"release":', b'"release": "x",\n  "release":'),
    "another schema": lambda text: text.replace(b"manifest/1", b"manifest/2"),
    "another size": lambda text: text.replace(b'"size_bytes": ', b'"size_bytes": 1'),
    "half a character": lambda text: text.replace(b'"path": "', b'"path": "\\ud800'),
    "in a list": lambda text: b"[" + text + b"]",
    "null": lambda text: b"null\n",
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_manifest_is_refused_even_if_it_says_the_same(copied: Copied, edit: str) -> None:
    def apply(file: Path) -> None:
        before = file.read_bytes()
        file.write_bytes(EDITS[edit](before))
        assert file.read_bytes() != before

    copied.refuses(copied.folder / MANIFEST, apply)


def test_a_manifest_that_another_hand_sealed_opens_only_what_it_vouches_for(copied: Copied) -> None:
    resealed(copied, lambda document: document["files"].pop(0))
    with pytest.raises(ReleaseCorrupt, match=f"{MANIFEST}: does not name"):
        Release.open(copied.folder)


@pytest.mark.parametrize("path", ["../outside", "/outside", "model/../../outside", "", ".", "a//b"])
def test_a_manifest_cannot_lead_out_of_the_folder(copied: Copied, path: str) -> None:
    outside = copied.folder.parent / "outside"
    outside.write_text("secret")
    entry = FileEntry(path=path, size_bytes=6, sha256=file_sha256(outside))
    resealed(copied, lambda document: document["files"].append(entry.model_dump()))
    with pytest.raises(ReleaseCorrupt, match=MANIFEST) as caught:
        Release.open(copied.folder)
    assert repr(path) in caught.value.message


def test_content_that_names_files_beside_the_manifest_is_refused(copied: Copied) -> None:
    """Both sealed, but of two releases."""
    content = copied.folder / CONTENT
    text = content.read_text()
    name = next((copied.folder / "vectors").rglob("*.arrow")).name
    content.write_text(text.replace(name, "other-" + name))

    def name_it(document: dict[str, Any]) -> None:
        for entry in document["files"]:
            if entry["path"] == CONTENT:
                entry |= {"size_bytes": content.stat().st_size, "sha256": file_sha256(content)}

    resealed(copied, name_it)
    with pytest.raises(ReleaseCorrupt, match=f"does not name .*other-{name}"):
        Release.open(copied.folder)


def test_verify_compares_with_the_log_too(tmp_path: Path, tiny_model: Path) -> None:
    mill = Mill(tmp_path, tiny_model)
    mill.run(items(5))
    release = mill.live()
    assert verify(mill.home, release.name).release == release.name
    copied = Copied(release.folder)
    (copied.folder / MANIFEST).chmod(0o644)
    resealed(copied, lambda document: document.update(created="2001-01-01T00:00:00Z"))
    with pytest.raises(ReleaseCorrupt, match="is not the manifest that log entry 1 names"):
        verify(mill.home, release.name)
