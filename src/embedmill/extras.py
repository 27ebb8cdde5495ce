"""Imports of optional packages: one that is absent is told from one that is broken, and from Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from embedmill.errors import ExtraUnusable, MissingExtra


class _Interrupts:
    """What a signal's handler raised in an import: compiled modules make any error of it, and lose which."""

    def __init__(self) -> None:
        self.raised: BaseException | None = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Within it, what handlers raise is noticed: KeyboardInterrupt, or a host's own SystemExit."""
        if threading.current_thread() is not threading.main_thread():  # interrupts go there
            yield
            return
        with contextlib.ExitStack() as stack:
            for number in (signal.SIGINT, signal.SIGTERM):
                stack.enter_context(self._heard(number))
            yield

    @contextmanager
    def _heard(self, number: signal.Signals) -> Iterator[None]:
        previous = signal.getsignal(number)
        if not callable(previous):
            yield
            return

        def handler(signum: int, frame: FrameType | None) -> None:
            try:
                previous(signum, frame)
            except BaseException as error:
                self.raised = error
                raise

        try:
            signal.signal(number, handler)
        except ValueError:  # an interpreter within another, as of mod_wsgi: no signal reaches it
            yield
            return
        try:
            yield
        finally:
            if signal.getsignal(number) is handler:
                signal.signal(number, previous)


@contextmanager
def optional(what: str, *modules: str, extra: str) -> Iterator[None]:
    """Import optional packages within it.

    Args:
        what: What people call it.
        modules: The top-level modules whose absence means that the extra is not installed.
        extra: The pip extra that brings them.

    Raises:
        MissingExtra: One of the modules is absent.
        ExtraUnusable: They are there, and importing them fails.
        BaseException: What a signal's handler raised, whatever the import made of it: mostly Ctrl-C's.
    """
    interrupts = _Interrupts()
    try:
        with interrupts.heard():
            yield
    except Exception as error:
        if interrupts.raised is not None:
            raise interrupts.raised from None
        if not isinstance(error, ImportError):
            raise
        if isinstance(error, ModuleNotFoundError) and error.name in modules:
            raise MissingExtra(what, extra=extra) from None
        raise ExtraUnusable(what, f"{type(error).__name__}: {error}", extra=extra) from error
    if interrupts.raised is not None:
        raise interrupts.raised
