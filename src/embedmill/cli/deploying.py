"""`deploy`: what other servers need to serve a release."""

from __future__ import annotations

import typer

app = typer.Typer(help="Lay out what servers need to serve a release.", no_args_is_help=True)
