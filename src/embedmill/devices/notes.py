"""What the holders of one user on this host leave of their workers.

<folder>/workers/<user id>/<worker>.lock    locked while the worker's holder lives
                           <worker>.json    pids, the exit code, the last words
                           <worker>.log     what the worker wrote to stderr
                           <worker>.out     what it wrote to stdout, where somebody asked for that

They are removed by a holder that starts later: a day after the worker's end, or a week where it failed.
The folder is the user's alone, for other users could write lies into it otherwise.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import time
from typing import Any

from embedmill.devices.locks import FOLDER_FLAGS, LocksUnusable, lock_file, shared_folder

WORKER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
TAIL_BYTES = 8192
OUTPUT_LIMIT = 1 << 24
"""Characters of stdout that are told; a proof with its vectors is far below."""
KEEP_S, KEEP_FAILED_S = 86400.0, 7 * 86400.0
"""How long it is kept what a worker left. Who drives its run asks within minutes, people within days."""
FINE = (0, 75)
GONE = 137
"""The exit code of a worker whose holder left none: both were killed."""


class Notes:
    """The notes on workers in a folder that several users share."""

    def __init__(self, folder: str) -> None:
        """Make this user's part of the folder.

        Raises:
            LocksUnusable: It cannot be made, or belongs to somebody else.
        """
        self._path = os.path.join(folder, "workers", str(os.getuid()))
        where = shared_folder(folder, "workers")
        try:
            os.mkdir(str(os.getuid()), 0o700, dir_fd=where)
        except FileExistsError:
            pass
        finally:
            os.close(where)
        self._check_mine()

    def lock(self, worker: str) -> int | None:
        """A descriptor that holds the worker's name; None if its holder lives."""
        return lock_file(self._open(), f"{_checked(worker)}.lock", create=True)

    def runs(self, worker: str) -> bool:
        """Whether the worker's holder lives."""
        try:
            descriptor = lock_file(self._open(), f"{_checked(worker)}.lock", create=False, shared=True)
        except FileNotFoundError:
            return False
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None

    def ending(self, ending: str) -> list[str]:
        """Workers that ran here, or run, whose names end so."""
        names = (name[: -len(".json")] for name in os.listdir(self._path) if name.endswith(".json"))
        return sorted(name for name in names if name.endswith(ending) and WORKER.fullmatch(name))

    def write(self, worker: str, note: dict[str, Any]) -> None:
        """Replace what is known of a worker."""
        path = self._at(worker, "json")
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(note, file, sort_keys=True)
        os.replace(f"{path}.new", path)

    def read(self, worker: str) -> dict[str, Any]:
        """What is known of a worker; empty if it never ran here."""
        try:
            with open(self._at(worker, "json"), encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def forget(self, worker: str) -> None:
        """Remove what an earlier worker of this name left."""
        for suffix in ("json", "out"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(self._at(worker, suffix))

    def collect(self) -> None:
        """Remove what workers left that ended long ago; whatever cannot be removed now stays."""
        for name in os.listdir(self._path):
            worker, suffix = os.path.splitext(name)
            if suffix == ".lock" and WORKER.fullmatch(worker):
                with contextlib.suppress(OSError, LocksUnusable):
                    if self._is_old(worker) and not self.runs(worker):
                        self._remove(worker)

    def open_log(self, worker: str) -> int:
        """A descriptor of an empty file for what the worker writes to stderr."""
        return self._new(worker, "log")

    def open_output(self, worker: str) -> int:
        """A descriptor of an empty file for what the worker writes to stdout."""
        return self._new(worker, "out")

    def output(self, worker: str) -> str | None:
        """What the worker wrote to stdout; None where nobody asked for it, or it is too long to be told."""
        try:
            with open(self._at(worker, "out"), encoding="utf-8", errors="replace") as file:
                text = file.read(OUTPUT_LIMIT + 1)
        except OSError:
            return None
        return text if len(text) <= OUTPUT_LIMIT else None

    def last_words(self, worker: str) -> str:
        """The last line that the worker wrote to stderr."""
        try:
            with open(self._at(worker, "log"), "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].strip() if lines else ""

    def state(self, worker: str) -> dict[str, Any]:
        """What `states` answers of a worker."""
        running, note = (
            self.runs(worker),
            self.read(worker),
        )  # in this order: a note is written before the end
        if running:
            return {"worker": worker, "running": True, "exit_code": None, "said": ""}
        code, said = note.get("exit_code"), note.get("said", "")
        if not note:
            said = "no worker of this name was started here"
        elif code is None:
            said = self.last_words(worker) or "its holder is gone without a word"
        found = {
            "worker": worker,
            "running": False,
            "exit_code": GONE if code is None else code,
            "said": said,
        }
        output = self.output(worker)
        return found if output is None else {**found, "output": output}

    def _is_old(self, worker: str) -> bool:
        """Whether it ended long ago. One that was refused its GPUs has a lock alone."""
        note = self.read(worker)
        fine = not note or note.get("exit_code") in FINE
        about = self._at(worker, "json" if note else "lock")
        return time.time() - os.stat(about).st_mtime > (KEEP_S if fine else KEEP_FAILED_S)

    def _remove(self, worker: str) -> None:
        """Under its lock, and that last of all: whoever starts it meanwhile makes another."""
        descriptor = lock_file(self._open(), f"{worker}.lock", create=False)
        if descriptor is None:
            return
        try:
            cid_file = str(self.read(worker).get("cidfile") or "")
            mine = [cid_file] if os.path.dirname(cid_file) == self._path and cid_file.endswith(".cid") else []
            for path in [*mine, *(self._at(worker, suffix) for suffix in ("out", "log", "json", "lock"))]:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(path)
        finally:
            os.close(descriptor)

    def _new(self, worker: str, suffix: str) -> int:
        return os.open(self._at(worker, suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def _at(self, worker: str, suffix: str) -> str:
        return os.path.join(self._path, f"{_checked(worker)}.{suffix}")

    def _open(self) -> int:
        return os.open(self._path, FOLDER_FLAGS)

    def _check_mine(self) -> None:
        found = os.lstat(self._path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise LocksUnusable(f"{self._path}: is not this user's alone: have it removed")


def _checked(worker: str) -> str:
    if not WORKER.fullmatch(worker):
        raise LocksUnusable(f"{worker!r} is no name of a worker")
    return worker
