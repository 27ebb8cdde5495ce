"""What the library logs as warnings, such as that a store gives no answer: a line each on stderr."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from embedmill.cli.failures import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Print it; above the bars, where there are any."""
        from embedmill.cli.output import talk

        talk().print(one_line(record.getMessage()), style="yellow", soft_wrap=True)


@contextlib.contextmanager
def showing_warnings(*, quiet: bool) -> Iterator[None]:
    """Show them while a command works, or nobody if `quiet`."""
    logger, handler = logging.getLogger("embedmill"), logging.NullHandler() if quiet else _Lines()
    handler.setLevel(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
