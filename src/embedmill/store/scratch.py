"""A folder for temporary files, whose errors are ours: full disks are common where spills are large.

Its owner holds a lock on a file in it, which ends with the process however that ends. So folders that a
killed process left behind are told from those in use, on any host or in any container that shares the disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from embedmill.errors import StoreDenied, StoreFull

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "embedmill-"
LOCK = ".lock"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder under $TMPDIR that vanishes at the end, also after an error; clears what killed owners left.

    Raises:
        StoreFull: What was written in it did not fit.
        StoreDenied: It cannot be made.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
            folder = Path(name)
            with owned(folder, LOCK):
                clear_abandoned(folder.parent, f"{PREFIX}*/{LOCK}")
                yield folder
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise StoreFull(
                f"{tempfile.gettempdir()}: no space left for temporary files",
                hint="free some space or point TMPDIR to a larger disk, then run again",
            ) from error
        if error.errno in {errno.EACCES, errno.EROFS, errno.ENOENT} and error.filename is not None:
            raise StoreDenied(
                f"{error.filename}: {error.strerror}", hint="TMPDIR must be a writable folder"
            ) from error
        raise


@contextlib.contextmanager
def owned(folder: Path, name: str, *, owner: bytes = b"") -> Iterator[None]:
    """Hold a folder's lock, a file `name` in it, which says whose it is.

    It gets its name only once it is held, so that nobody sees it free before.
    """
    unnamed = folder / f"{name}-new"
    with unnamed.open("wb") as lock:
        lock.write(owner)
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        unnamed.rename(folder / name)
        yield


def clear_abandoned(parent: Path, locks: str, *, owner: bytes = b"") -> None:
    """Remove folders whose owner is gone. What cannot be removed, such as another user's, is left.

    Args:
        parent: Where they are.
        locks: A pattern of their locks, below `parent`.
        owner: What the locks say of those that may be removed.
    """
    for lock in parent.glob(locks):
        with contextlib.suppress(OSError):
            if _emptied(lock, owner):  # it is closed again: NFS keeps open files that are removed
                lock.unlink()
                lock.parent.rmdir()


def _emptied(lock: Path, owner: bytes) -> bool:
    """Remove all but the lock from a folder whose owner is gone, and say whether nothing else is there.

    Raises:
        OSError: Its owner is at work, or another process clears it.
    """
    with lock.open("r+b") as held:  # NFS locks no file that is only read
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if held.read(len(owner) + 1) != owner:
            return False
        for path in lock.parent.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path != lock:
                with contextlib.suppress(OSError):
                    path.unlink()
        return list(lock.parent.iterdir()) == [lock]
