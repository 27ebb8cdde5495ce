"""`store …`: whether a store is fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.options import AsJson
from embedmill.cli.output import data, emit, table

if TYPE_CHECKING:
    from embedmill.spec.reports import ProbeReport

app = typer.Typer(help="Stores: whether they do what releases rest on.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `check` a command of its own, also while it is the only one."""


@app.command()
def check(
    urls: Annotated[
        list[str],
        typer.Argument(
            metavar="URL...",
            help="A store, as in pipeline.yaml; several URLs are several doors to the same store.",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Find out whether a store does what releases rest on: creates once, keeps bytes, shows the newest."""
    from embedmill.store import open_store
    from embedmill.store.probe import forget_fit, probe, raise_unfit

    stores = [open_store(url) for url in urls]
    report = probe(stores)
    if as_json:
        emit(report)
    else:
        _print(report)
    if report.fit:
        return
    for store in stores:
        forget_fit(store)
    if as_json:
        raise typer.Exit(1)
    raise_unfit(report)


def _print(report: ProbeReport) -> None:
    from rich.text import Text

    words = {True: Text("ok", "green"), False: Text("FAIL", "bold red")}
    rows = [(each.check, words[each.passed], each.found) for each in report.findings]
    data().print(table("check", "state", "found", rows=rows))
