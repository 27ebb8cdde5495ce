"""`report`: what the workers of a run did, as a table, JSON, or a page with a timeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.options import AsJson, PipelineFile, open_pipeline
from embedmill.cli.output import data, duration, emit, facts, table, talk
from embedmill.cli.pipelines import PANEL

if TYPE_CHECKING:
    from embedmill.spec.platform import RunWorkReport


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PANEL)(report)


def report(
    pipeline: PipelineFile,
    run: Annotated[
        str | None, typer.Option("--run", metavar="NAME", help="A run by its name; the newest if absent.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with a timeline, too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what each worker of a run did: rows and vectors a second, share, yields, retries, idle time."""
    from embedmill.release.history import newest_plan
    from embedmill.release.report import render_work
    from embedmill.release.shares import run_work

    opened = open_pipeline(pipeline)
    plan = newest_plan(opened.home) if run is None else opened.open_run(run).plan
    work = run_work(opened.home, plan)
    if html is not None:
        html.write_bytes(render_work(work, plan.pipeline.model))
        talk().print(f"wrote {html}", soft_wrap=True)
    if as_json:
        emit(work)
    else:
        _print(work, plan.pipeline.model)


def _print(work: RunWorkReport, model: str) -> None:
    from embedmill.release.timeline import HEAD, NUMBERS, share_row

    shards = f"{len(work.shards):,} of {work.shards_planned:,} committed, in {duration(work.seconds)}"
    out = data()
    out.print(
        facts([("run", work.run), ("model", model), ("began", work.began or "not yet"), ("shards", shards)])
    )
    if work.workers:
        out.print()
        rows = map(share_row, work.workers)
        out.print(table(*HEAD, rows=rows, numbers=list(range(NUMBERS, len(HEAD)))))
