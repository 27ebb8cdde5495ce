"""The root command: how it is interrupted, and its help."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from embedmill.cli.failures import Interrupted, ReaderGone

MOST = 200
"""Characters of a command's first sentence."""


class Root(TyperGroup):
    """Typer ends on Ctrl-C and broken pipes by itself; here they reach `report`.

    Its help is plain text: importing Rich takes longer than all that this help needs.
    """

    def invoke(self, ctx: Any) -> Any:  # noqa: D102 - typer's signature
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted from None
        except BrokenPipeError:
            raise ReaderGone from None

    def get_help(self, ctx: Any) -> str:
        """Print it, and hand back none, as typer's other groups do: where a command is missing, too."""
        print(super().get_help(ctx))
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


def _panel(command: Any) -> str:
    return str(getattr(command, "rich_help_panel", None) or "Commands")
