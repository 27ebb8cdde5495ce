"""The root command: how it is interrupted, and its help."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup

from embedmill.cli.failures import Interrupted, ReaderGone

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 200
"""Characters of a command's first sentence."""


class Root(TyperGroup):
    """Typer ends on Ctrl-C and broken pipes by itself; here they reach `report`.

    Its help is plain text: importing Rich takes longer than all that this help needs.
    """

    def make_context(self, *given: Any, **named: Any) -> Any:
        """Its own help and version are printed here already."""
        with _reported():
            return super().make_context(*given, **named)

    def invoke(self, ctx: Any) -> Any:  # noqa: D102 - typer's signature
        with _reported():
            return super().invoke(ctx)

    def get_help(self, ctx: Any) -> str:
        """Print it, and hand back none, as typer's other groups do: where a command is missing, too."""
        print(super().get_help(ctx), flush=True)  # where a command is missing, an error follows
        return ""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: D102 - typer's signature
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_options(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer's signature
        """A section for each panel, with its commands below each other."""
        shown = [(name, each) for name, each in self.commands.items() if not each.hidden]
        width = max((len(name) for name, _ in shown), default=0)
        panels = {_panel(each): None for _, each in shown}
        for panel in panels:
            with formatter.section(panel):
                rows = [
                    (name.ljust(width), each.get_short_help_str(MOST))
                    for name, each in shown
                    if _panel(each) == panel
                ]
                formatter.write_dl(rows)


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """Ctrl-C and broken pipes as what `report` knows."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted from None
    except BrokenPipeError:
        raise ReaderGone from None
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # Rich, which prints the help of commands, ends so
            raise ReaderGone from None
        raise


def _panel(command: Any) -> str:
    return str(getattr(command, "rich_help_panel", None) or "Commands")
