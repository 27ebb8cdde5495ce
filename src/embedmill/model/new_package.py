"""The folder in which a package is made: beside the target, and renamed into place when it is whole."""

from __future__ import annotations

import errno
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from embedmill.errors import ModelError
from embedmill.store.scratch import clear_abandoned, owned

LOCK = ".embedmill-import"
MACHINE_ID = Path("/etc/machine-id")
"""Tells hosts of one name apart: https://www.freedesktop.org/software/systemd/man/latest/machine-id.html"""
ABANDONED = f".*.????????/{LOCK}"
"""Such folders in which an import may have been killed."""


@contextmanager
def new_package(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` when all went well, and is gone when not.

    Those that imports of this host left beside it, since they were killed, are removed.

    Raises:
        ModelError: `target` exists, or cannot be written.
    """
    if target.exists() or target.is_symlink():
        raise _exists(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(
                prefix=f".{target.name}.", dir=target.parent, ignore_cleanup_errors=True
            ) as scratch,
            _held(Path(scratch)),
        ):
            folder = Path(scratch) / target.name
            folder.mkdir()
            try:
                yield folder
            except ModelError as error:  # the folder will be gone: say where the file would have been
                error.message = error.message.replace(str(folder), str(target))
                raise
            folder.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and target.exists():  # another import was faster
            raise _exists(target) from error
        raise ModelError(f"{target}: cannot be written: {error}") from error


@contextmanager
def _held(scratch: Path) -> Iterator[None]:
    """Show other imports that somebody is at work in it, where the disk has locks; and remove what nobody is.

    Some shared disks have locks that other hosts do not see: theirs are left alone.
    """
    host = this_host()
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(owned(scratch, LOCK, owner=host))
            clear_abandoned(scratch.parent, ABANDONED, owner=host)
        yield


def this_host(machine_id: Path = MACHINE_ID) -> bytes:
    """What locks say of this host: its name, and which machine it is where a file says so.

    Containers of one image and name may share both.
    """
    name = socket.gethostname().encode()
    try:
        return b" ".join([name, *machine_id.read_bytes().split()[:1]])
    except OSError:
        return name


def _exists(target: Path) -> ModelError:
    return ModelError(f"{target}: exists already", hint="choose another folder, or delete this one")
