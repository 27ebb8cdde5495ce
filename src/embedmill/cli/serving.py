"""`serve`: a release, or what is live of a pipeline, as a server."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.options import AsJson, Target
from embedmill.cli.output import emit, talk
from embedmill.cli.searching import PANEL, open_target
from embedmill.errors import SpecError
from embedmill.extras import optional
from embedmill.serving.observing.logs import LogFormat, log_lines

if TYPE_CHECKING:
    from embedmill.release.layout import Home
    from embedmill.serving.served import Served


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PANEL)(serve)


def serve(
    target: Target,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any free one.")] = 8080,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads that a model computes with; all cores if absent.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where models compute: cpu, or cuda:0.")] = "cpu",
    follow: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=0.1, help="Look for a newer live release this often, and swap to it."
        ),
    ] = None,
    drain: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="Answer this long after SIGTERM, while not ready."),
    ] = 5.0,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="API keys, one a line: `key`, or `name: key`.")
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Let everybody ask who can reach --host.")
    ] = False,
    private_metrics: Annotated[
        bool, typer.Option("--private-metrics", help="Let /metrics need a key as well.")
    ] = False,
    watch: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0.1, help="Embed a golden this often; not ready after three fail."
        ),
    ] = 5.0,
    log_format: Annotated[LogFormat, typer.Option(help="Lines of the log, on stderr.")] = LogFormat.TEXT,
    as_json: AsJson = False,
) -> None:
    """Serve model, search and items of one release over HTTP."""
    _require_extra()
    from embedmill.serving.admission.keys import check_exposure
    from embedmill.serving.run import ServeOptions
    from embedmill.serving.run import serve as run
    from embedmill.serving.served import Machine

    check_exposure(host, keys=keys is not None, no_auth=no_auth)
    home = _home(target)
    if follow is not None and home is None:
        raise SpecError("--follow needs a pipeline.yaml", hint="a release's folder never changes")
    machine = Machine(device, threads or os.cpu_count() or 1)
    options = ServeOptions(host, port, machine, follow, drain, keys, private_metrics, watch)
    with log_lines(log_format):
        say = _emit_ready if as_json else _log_ready if log_format is LogFormat.JSON else _say_ready
        run(open_target(target), options, home=home, ready=say)


def _say_ready(url: str, served: Served) -> None:
    talk().print(_ready_words(url, served), soft_wrap=True)


def _log_ready(url: str, served: Served) -> None:
    """Whatever collects a log of JSON takes no other lines."""
    logging.getLogger("embedmill.serving").info(_ready_words(url, served))


def _ready_words(url: str, served: Served) -> str:
    number = "" if served.release.number is None else f", number {served.release.number}"
    return f"serving release {served.release.name}{number} at {url}"


def _emit_ready(url: str, served: Served) -> None:
    from embedmill.spec.reports import ServingReport

    release = served.release
    emit(ServingReport(url=url, release=release.name, number=release.number, model=served.package_digest))


def _home(target: str) -> Home | None:
    from embedmill.cli.options import open_pipeline

    if target.endswith((".yaml", ".yml")):
        return open_pipeline(Path(target)).home
    return None


def _require_extra() -> None:
    with optional("FastAPI, which servers need,", "fastapi", "uvicorn", extra="serve"):
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
