"""A server's log on stderr: one object of JSON a line for machines, or a line for people."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from collections.abc import Iterator
from enum import StrEnum
from typing import Any


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


@contextlib.contextmanager
def log_lines(how: LogFormat) -> Iterator[None]:
    """Send what this process logs to stderr as such lines, and nowhere else, for a while."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if how is LogFormat.JSON else TextLines())
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


def _utc(record: logging.LogRecord) -> str:
    at = time.gmtime(record.created)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', at)}.{int(record.msecs):03d}Z"
