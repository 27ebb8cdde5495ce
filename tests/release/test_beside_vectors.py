"""Files that lie beside the vectors of a segment: found by fingerprint or content, refused when damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedmill.digest import digest_list
from embedmill.errors import ReleaseCorrupt
from embedmill.release.contents import ContentPart, ContentTable, write_contents
from embedmill.release.thumbnails import ThumbnailPart, ThumbnailTable, write_thumbnails
from embedmill.release.vectors import write_vectors
from embedmill.types import Digests


def digests(*numbers: int) -> Digests:
    """Ends in zero bytes, which numpy hides."""
    return np.array([bytes([number]) + bytes(14) + bytes([number % 2]) for number in numbers], dtype="S16")


def contents(folder: Path, number: int, of: Digests, prints: Digests) -> ContentPart:
    file = folder / f"{number}.arrow"
    write_contents(file, of, prints)
    return ContentPart.open(file)


def test_contents_are_written_in_any_order_and_found_by_either_side(tmp_path: Path) -> None:
    first = contents(tmp_path, 1, digests(9, 2, 4), digests(1, 3, 5))
    second = contents(tmp_path, 2, digests(7), digests(2))
    assert digest_list(first.contents) == digest_list(digests(2, 4, 9))
    assert first.locate(digests(9, 3, 2, 200)).tolist() == [2, -1, 0, -1]
    assert digest_list(first.fingerprints[first.locate(digests(9, 2))]) == digest_list(digests(1, 3))
    found, known = ContentTable([first, second]).of(digests(5, 2, 4))
    assert known.tolist() == [True, True, False]
    assert digest_list(found[known]) == digest_list(digests(4, 7))


def test_of_equal_contents_the_first_is_found(tmp_path: Path) -> None:
    part = contents(tmp_path, 1, digests(6, 6, 6), digests(3, 1, 2))
    assert digest_list(part.fingerprints[part.locate(digests(6))]) == digest_list(digests(3))


def test_where_there_are_none_none_is_found(tmp_path: Path) -> None:
    assert contents(tmp_path, 1, digests(), digests()).locate(digests(1)).tolist() == [-1]
    assert not ContentTable([]).of(digests(1))[1].any()
    assert ThumbnailTable([]).all_of(digests(1)) == [None]
    assert not ThumbnailTable([])


def test_thumbnails_are_found_in_whichever_part_has_them(tmp_path: Path) -> None:
    parts = []
    for number, (prints, files) in enumerate([(digests(2, 8), [b"two", b"eight"]), (digests(5), [b"five"])]):
        write_thumbnails(tmp_path / f"{number}.arrow", prints, files)
        parts.append(ThumbnailPart.open(tmp_path / f"{number}.arrow"))
    table = ThumbnailTable(parts)
    assert table.all_of(digests(8, 5, 1, 2, 9)) == [b"eight", b"five", None, b"two", None]
    assert table.of(digest_list(digests(5))[0]) == b"five"


@pytest.mark.parametrize("opened", [ContentPart.open, ThumbnailPart.open])
def test_another_file_is_refused(tmp_path: Path, opened: Callable[[Path], object]) -> None:
    file = tmp_path / "x.arrow"
    file.write_bytes(b"no Arrow file, but as long as the end of one would be")
    with pytest.raises(ReleaseCorrupt, match=r"x\.arrow"):
        opened(file)
    write_vectors(file, digests(1), np.zeros((1, 2), np.float32))
    with pytest.raises(ReleaseCorrupt, match=r"x\.arrow"):
        opened(file)
