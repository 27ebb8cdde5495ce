"""`environment`: what is installed here, for the check of what production can compute."""

from __future__ import annotations

import typer

from embedmill.cli.options import AsJson
from embedmill.cli.output import data, emit, facts, table

PANEL = "Help"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PANEL)(environment)


def environment(as_json: AsJson = False) -> None:
    """Show which runtimes are installed here; `serving.production.environment` names the JSON of it."""
    from embedmill.runtimes.installed import this_environment

    found = this_environment()
    if as_json:
        emit(found)
        return
    out = data()
    out.print(facts([("python", found.python), ("machine", found.machine)]))
    out.print()
    rows = [
        (kind, each.library, each.version, each.max_opset or "", each.max_ir or "")
        for kind, each in found.runtimes.items()
    ]
    out.print(table("runtime", "library", "version", "ONNX opset", "ONNX IR", rows=rows, numbers=[3, 4]))
