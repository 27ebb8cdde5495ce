"""Files of shards: written in the order of their rows, large ones in threads, and no more than memory has."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from embedmill.planning import shards as module
from embedmill.planning.shards import FrozenShard, Piece, ShardFiles
from embedmill.store.hashing import file_sha256


def piece(shard: int, texts: list[str]) -> Piece:
    rows = pa.table({"_cost": pa.array([2] * len(texts), pa.int64()), "text": texts})
    return Piece(rows, rows.nbytes, shard)


def written(folder: Path, most_bytes: int = 1 << 20) -> list[FrozenShard]:
    with ShardFiles(folder, most_bytes) as files:
        for number in range(20):
            files.add(piece(number, [f"row {number}"] * (number + 1)))
        return files.finish()


def test_large_shards_are_hashed_while_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = written(tmp_path)
    bytes_of = [shard.file.read_bytes() for shard in small]
    assert {shard.sha256 for shard in small} == {None}
    tenth = piece(9, ["row 9"] * 10)
    monkeypatch.setattr(module, "LARGE_SHARD_BYTES", tenth.size_bytes)
    large = written(tmp_path)
    assert [shard.file.read_bytes() for shard in large] == bytes_of
    assert [(shard.name, shard.rows, shard.cost) for shard in large] == [
        (f"{number:05d}", number + 1, 2 * (number + 1)) for number in range(20)
    ]
    digests = [hashlib.sha256(content).hexdigest() for content in bytes_of]
    assert [shard.sha256 for shard in large] == [None] * 9 + digests[9:]


def test_two_of_the_largest_shards_are_written_at_once_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two waits for the second; whoever came as a third would be seen."""
    most_bytes, there, seen = 1000, set[Path](), list[int]()
    lock, pair = threading.Lock(), threading.Barrier(2)

    def together(file: Path) -> str:
        with lock:
            there.add(file)
            seen.append(len(there))
        pair.wait(60)
        with lock:
            there.remove(file)
        return file_sha256(file)

    monkeypatch.setattr(module, "LARGE_SHARD_BYTES", 0)
    monkeypatch.setattr(module, "cores", lambda: 8)
    monkeypatch.setattr(module, "file_sha256", together)
    with ShardFiles(tmp_path, most_bytes) as files:
        for number in range(12):
            files.add(piece(number, ["x" * 980]))
        assert len(files.finish()) == 12
    assert max(seen) == 2


def test_a_shard_that_cannot_be_written_is_told_and_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    rows = piece(0, ["x" * module.LARGE_SHARD_BYTES])
    with ShardFiles(tmp_path / "gone", 1 << 20) as files:
        files.add(rows)
        with pytest.raises(FileNotFoundError):
            files.finish()
    assert not [each for each in threading.enumerate() if each not in before]
