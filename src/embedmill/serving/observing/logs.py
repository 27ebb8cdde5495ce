"""A server's log on stderr: one object of JSON a line for machines, or a line for people.

Lines are written by a thread of their own: no answer waits for a slow disk, or for a pipe that nobody reads.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, TextIO

WRITE_S = 0.05
"""How long a line may wait for others that are written with it."""
LINES = 50_000
"""Lines that wait, at most; what comes then is lost, and counted."""
LAST_S = 2.0
"""How long the last lines may take when a server ends."""


class LogFormat(StrEnum):
    """How lines look."""

    TEXT = "text"
    JSON = "json"


class JsonLines(logging.Formatter):
    """`time`, `level`, `logger`, `message`, the `fields` of a request, and `exception` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": _utc(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextLines(logging.Formatter):
    """Time, level, message and fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a stack below it where there is one."""
        fields = "".join(f" {name}={value}" for name, value in getattr(record, "fields", {}).items())
        line = f"{_utc(record)} {record.levelname.lower()} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class Unhurried(logging.Handler):
    """Keeps records, and writes many at once, soon, in a thread; what is bad is written before it goes on."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        """Start the thread."""
        super().__init__()
        self.setFormatter(formatter)
        self._stream = stream
        self._records: deque[logging.LogRecord] = deque()
        self._lost = 0
        self._writing = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        if len(self._records) >= LINES:
            self._lost += 1
            return
        self._records.append(record)
        if record.levelno >= logging.CRITICAL:
            self.write()

    def write(self) -> None:
        """Write what there is."""
        with self._writing:
            lines, count = [], len(self._records)
            for _ in range(count):
                lines.append(self.format(self._records.popleft()) + "\n")
            if self._lost:
                lost, self._lost = self._lost, 0
                lines.append(self.format(_loss(lost)) + "\n")
            if lines:
                with contextlib.suppress(OSError, ValueError):  # nobody reads it, or the disk is full
                    self._stream.write("".join(lines))
                    self._stream.flush()

    def close(self) -> None:
        """Write the last lines, unless nobody takes them."""
        self._closed.set()
        self._thread.join(LAST_S)
        super().close()

    def _run(self) -> None:
        while not self._closed.wait(WRITE_S):
            self.write()
        self.write()


def _loss(count: int) -> logging.LogRecord:
    message = "%d lines of the log were lost: they came faster than they could be written"
    return logging.LogRecord("embedmill.serving", logging.WARNING, __file__, 0, message, (count,), None)


@contextlib.contextmanager
def log_lines(how: LogFormat) -> Iterator[None]:
    """Send what this process logs to stderr as such lines, and nowhere else, for a while."""
    handler = Unhurried(sys.stderr, JsonLines() if how is LogFormat.JSON else TextLines())
    root, own = logging.getLogger(), logging.getLogger("embedmill")
    before = [(each, each.handlers[:], each.level) for each in (root, own)]
    root.handlers[:], own.handlers[:] = [handler], []
    root.setLevel(logging.WARNING)
    own.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, handlers, level in before:
            logger.handlers[:] = handlers
            logger.setLevel(level)
        handler.close()


def _utc(record: logging.LogRecord) -> str:
    at = time.gmtime(record.created)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', at)}.{int(record.msecs):03d}Z"
