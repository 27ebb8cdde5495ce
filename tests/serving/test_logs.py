"""A server's log: written beside the answers, never before them, and nothing of it is lost in silence."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from embedmill.serving.observing import logs
from embedmill.serving.observing.logs import TextLines, Unhurried

LINES = 5_000


@contextmanager
def logger_to(stream: TextIO) -> Iterator[logging.Logger]:
    handler = Unhurried(stream, TextLines())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    yield logger
    handler.close()


@contextmanager
def pipe() -> Iterator[tuple[TextIO, TextIO]]:
    reading, writing = os.pipe()
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as writer:
        yield reader, writer


def test_who_logs_into_a_pipe_that_nobody_reads_goes_on() -> None:
    with pipe() as (reader, writer):
        found: list[str] = []
        with logger_to(writer) as logger:
            for number in range(LINES):
                logger.warning("%d %s", number, "x" * 100)  # far more than a pipe holds
            reading = threading.Thread(target=lambda: found.extend(reader.readline() for _ in range(LINES)))
            reading.start()
            reading.join()
    assert [int(line.split()[2]) for line in found] == list(range(LINES))


def test_lines_that_came_too_fast_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LINES", 10)
    with pipe() as (reader, writer):
        with logger_to(writer) as logger:
            handler = logger.handlers[0]
            assert isinstance(handler, Unhurried)
            with handler._writing:  # as while a write hangs
                for number in range(30):
                    logger.warning("%d", number)
        writer.close()
        text = reader.read()
    assert "20 lines of the log were lost" in text
    assert text.count("\n") == 11


def test_what_is_critical_is_there_at_once() -> None:
    with pipe() as (reader, writer), logger_to(writer) as logger:
        logger.warning("before")
        logger.critical("the end")
        assert [reader.readline().split(" ", 2)[2] for _ in range(2)] == ["before\n", "the end\n"]
