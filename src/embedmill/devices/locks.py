"""Who may use a GPU: one lock a GPU, which the kernel frees when its holder ends, however it ends.

<folder>/locks/<UUID>     an flock(2) on it is the lock; what is written in it is for people alone

Everybody who borrows GPUs of a host uses one folder. It belongs to nobody: folders have the mode 1777, files
0666, and files are never removed, for a lock on a removed file would be none. Use a local disk: on NFS, what
becomes of a lock when the NFS server restarts, or is out of reach, is the server's choice.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import time

UUID = re.compile(r"(GPU|MIG)-[0-9A-Za-z-]{1,80}")
"""What a GPU's name must be, before it becomes the name of a file."""
SHARED_FOLDER, SHARED_FILE = 0o1777, 0o666
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
TRIES, PAUSE_S = 10, 0.02
"""Who only looks holds the lock for a moment, too; who makes a file opens it to all a moment later."""
WORDS_BYTES = 400


class LocksUnusable(Exception):
    """Locks cannot be taken here; says where, and what to do."""


class GpuLock:
    """A lock that this process holds until `release`, or until it ends."""

    def __init__(self, uuid: str, descriptor: int) -> None:
        """The file is open, and locked."""
        self.uuid, self._descriptor = uuid, descriptor

    def release(self) -> None:
        """Let others have it."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1


def try_lock(folder: str, uuid: str, words: str) -> GpuLock | None:
    """Take the lock of a GPU; None if somebody else has it. `words` say who holds it, for people.

    Raises:
        LocksUnusable: The folder cannot be used, or something else than a lock lies there.
    """
    descriptor = lock_file(shared_folder(folder, "locks"), _checked(uuid), create=True)
    if descriptor is None:
        return None
    with contextlib.suppress(OSError):  # such as a full disk: nothing rests on the words
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, words.encode()[:WORDS_BYTES], 0)
    return GpuLock(uuid, descriptor)


def holder_of(folder: str, uuid: str) -> str | None:
    """Who holds a GPU, in the words that they left; None if nobody does. Takes nothing, and makes nothing.

    Raises:
        LocksUnusable: Something else than a lock lies there.
    """
    try:
        where = os.open(os.path.join(folder, "locks"), FOLDER_FLAGS)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(os.path.join(folder, "locks"), error) from None
    return _words(where, _checked(uuid))


def shared_folder(path: str, *names: str) -> int:
    """A descriptor of a folder that everybody may use: made where it is missing, never through links.

    Raises:
        LocksUnusable: It cannot be made or used.
    """
    at = path
    try:
        os.makedirs(os.path.dirname(path) or "/", exist_ok=True)
        descriptor = _subfolder(path, None)
        for name in names:
            at = os.path.join(at, name)
            parent, descriptor = descriptor, _subfolder(name, descriptor)
            os.close(parent)
    except OSError as error:
        raise _unusable(at, error) from None
    return descriptor


def lock_file(where: int, name: str, *, create: bool, shared: bool = False) -> int | None:
    """A descriptor that holds the lock on a file in the folder `where`, which is closed; None if it is taken.

    Raises:
        LocksUnusable: It is no regular file, or may not be opened.
        FileNotFoundError: There is none, and `create` is false.
    """
    try:
        for _ in range(TRIES):
            descriptor = _opened(where, name, create=create)
            locked = _locks(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            if locked and _is_at(descriptor, where, name):
                return descriptor
            os.close(descriptor)
            if shared and not locked:  # others who look are no hindrance
                return None
            time.sleep(PAUSE_S)
        return None
    finally:
        os.close(where)


def _words(where: int, uuid: str) -> str | None:
    again = os.dup(where)
    try:
        descriptor = lock_file(where, uuid, create=False, shared=True)
        if descriptor is not None:
            os.close(descriptor)
            return None
        descriptor = os.open(uuid, os.O_RDONLY | FILE_FLAGS, dir_fd=again)
        said = os.pread(descriptor, WORDS_BYTES, 0).decode("utf-8", "replace")
        os.close(descriptor)
        return "".join(each for each in said if each.isprintable()) or "somebody"
    except FileNotFoundError:
        return None
    finally:
        os.close(again)


def _subfolder(name: str, parent: int | None) -> int:
    made = True
    try:
        os.mkdir(name, SHARED_FOLDER, dir_fd=parent)
    except FileExistsError:
        made = False
    descriptor = os.open(name, FOLDER_FLAGS, dir_fd=parent)
    if made:
        os.fchmod(descriptor, SHARED_FOLDER)  # whatever the umask is
    return descriptor


def _opened(where: int, name: str, *, create: bool) -> int:
    """The file, opened. Never with O_CREAT where it exists: `fs.protected_regular` forbids that to others."""
    for left in reversed(range(TRIES)):
        try:
            return _checked_file(
                os.open(name, (os.O_RDWR if create else os.O_RDONLY) | FILE_FLAGS, dir_fd=where), name
            )
        except FileNotFoundError:
            if not create:
                raise
        except PermissionError as error:
            if not left:
                raise _unusable(name, error) from None
            time.sleep(PAUSE_S)
            continue
        except OSError as error:
            raise _unusable(name, error) from None
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | FILE_FLAGS
            descriptor = os.open(name, flags, SHARED_FILE, dir_fd=where)
            os.fchmod(descriptor, SHARED_FILE)
            return descriptor
        except FileExistsError:
            continue
        except OSError as error:
            raise _unusable(name, error) from None
    raise LocksUnusable(f"{name}: appears and disappears: somebody removes files of locks")


def _checked_file(descriptor: int, name: str) -> int:
    """The descriptor, if what it leads to is a lock: a file of one name, so that no other is written to."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise LocksUnusable(f"{name}: is no file of a lock: remove it")
    return descriptor


def _locks(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        return True
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise LocksUnusable(f"this file system has no locks: {error.strerror}") from None


def _is_at(descriptor: int, where: int, name: str) -> bool:
    """Whether the locked file is the one that others will find under the name."""
    mine = os.fstat(descriptor)
    try:
        there = os.stat(name, dir_fd=where, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def _checked(uuid: str) -> str:
    if not UUID.fullmatch(uuid):
        raise LocksUnusable(f"{uuid!r} is no UUID of a GPU")
    return uuid


def _unusable(path: str, error: OSError) -> LocksUnusable:
    why = "is a symbolic link" if error.errno == errno.ELOOP else (error.strerror or str(error)).lower()
    return LocksUnusable(f"{path}: {why}; the folder is to be everybody's, as `mkdir -m 1777` makes it")
