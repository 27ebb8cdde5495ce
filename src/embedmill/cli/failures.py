"""What goes wrong: one line on stderr, with `--json` a document on stdout too, and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

import typer

from embedmill.cli.hints import with_file
from embedmill.errors import ERROR, EmbedmillError, StoreFull

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

USAGE_ERRORS: type[Exception] = typer.BadParameter.__mro__[1]
"""What typer raises on a wrong command line, wherever its version keeps it."""

DEBUG = "EMBEDMILL_DEBUG"
INTERRUPTED, BROKEN_PIPE = 130, 141


class Interrupted(Exception):
    """Somebody pressed Ctrl-C, or sent SIGTERM; an outcome and not an error of the tree."""

    def __init__(self, message: str = "interrupted", *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ReaderGone(Exception):
    """The reader of stdout, such as `head`, has had enough."""


def report(error: BaseException, arguments: Sequence[str], *, as_json: bool) -> int:
    """Say what went wrong; returns the exit code.

    Raises:
        BaseException: The error itself, where it is a bug and EMBEDMILL_DEBUG is set.
    """
    if isinstance(error, ReaderGone | BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    said, advice, code, exit_code = _described(error)
    message = with_file(said, arguments)  # which may quote a worker's own hint
    hint = with_file(advice, arguments)
    if exit_code == 1 and code == "Bug" and os.environ.get(DEBUG):
        raise error
    if as_json:
        _print_json(message, hint, code, exit_code)
    if arguments[:1] == ["worker"]:  # an engine shows the last line that a worker wrote
        print(f"{ERROR}{one_line(f'{message} ({hint})' if hint else message)}", file=sys.stderr)
    else:
        _print_line(message, hint)
    return exit_code


def _described(error: BaseException) -> tuple[str, str, str, int]:
    """Message, hint, code and exit code."""
    match error:
        case EmbedmillError():
            return error.message, error.hint, error.code, error.exit_code
        case Interrupted() | KeyboardInterrupt():
            message = str(error) or "interrupted"
            return message, getattr(error, "hint", ""), "Interrupted", INTERRUPTED
        case OSError() if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            where = error.filename or "a disk"
            return (
                f"{where}: no space left",
                "free some space, then run again",
                "StoreFull",
                StoreFull.exit_code,
            )
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{(error.strerror or str(error)).lower()}", "", type(error).__name__, 1
    if isinstance(error, USAGE_ERRORS):
        return _usage(error)
    found = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"this is a bug in embedmill: {found}", f"{DEBUG}=1 shows where; please report it", "Bug", 1


def _usage(error: Exception) -> tuple[str, str, str, int]:
    said: str = getattr(error, "format_message", lambda: str(error))()
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "embedmill"
    said = said.replace("Value error, ", "").rstrip(".") or "a command is missing"
    return said, f"see `{command} --help`", "UsageError", 2


def _print_json(message: str, hint: str, code: str, exit_code: int) -> None:
    from embedmill.cli.output import emit
    from embedmill.spec.reports import ErrorReport, Failure

    emit(ErrorReport(error=Failure(code=code, message=message, hint=hint, exit_code=exit_code)))


def _print_line(message: str, hint: str) -> None:
    from rich.text import Text

    from embedmill.cli.output import talk

    line = Text.assemble((ERROR, "bold red"), one_line(message))
    if hint:
        line.append(f" ({one_line(hint)})", style="dim")
    talk().print(line, soft_wrap=True)


def one_line(text: str) -> str:
    """The text without line breaks and control characters."""
    return "".join(_printable(" ".join(text.split())))


def _printable(text: str) -> Iterator[str]:
    return (character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
