"""`verify`: is a running server the release that it should be?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.options import AsJson, Target
from embedmill.cli.output import data, emit, table, talk
from embedmill.cli.searching import PANEL, open_target
from embedmill.errors import EmbedmillError, ParityFailed, ReleaseIncompatible, ServerDenied, SpecError

if TYPE_CHECKING:
    from rich.table import Table

    from embedmill.gates.alike import Tolerance
    from embedmill.gates.parity import Known
    from embedmill.release.reader import Release
    from embedmill.spec.parity import ParityReport


class Speaks(StrEnum):
    """Protocols of servers."""

    OPENAI = "openai"
    OIP = "oip"
    TF_SERVING = "tf_serving"
    TRITON = "triton"


PARITY_FAILED = ParityFailed.exit_code
KEY_ALONE = "this file has the key alone, without the `name:` before it that the file of `serve --keys` has"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PANEL)(verify)


def verify(
    target: Target,
    server: Annotated[str, typer.Option(metavar="URL", help="The running server, such as http://host:8000.")],
    protocol: Annotated[
        Speaks, typer.Option(help="What the server speaks; `openai` has only models that read one text.")
    ] = Speaks.OIP,
    number: Annotated[
        int | None, typer.Option(min=0, help="The version asked for; the release's number where absent.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Has the key that the server wants to see.")
    ] = None,
    source: Annotated[
        int,
        typer.Option(
            metavar="ROWS",
            min=0,
            help="Compare so many items of the catalog as it is now, too: TARGET is a pipeline.yaml then.",
        ),
    ] = 0,
    lowest_cosine: Annotated[
        float | None,
        typer.Option(
            metavar="COSINE", min=-1.0, max=1.0, help="What every cosine must reach; 0.9999 for float32."
        ),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE.xml", help="Write the findings as JUnit XML.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write the findings as a page.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a running server with a release: names, versions, limits, errors, and vectors."""
    from embedmill.gates.parity import verify as compare
    from embedmill.runtimes.remote.fields.asking import LIMITED_FOR_S, AskedServer

    release = open_target(target)
    version = number if number is not None else release.number
    if version is None:
        raise ReleaseIncompatible(
            f"release {release.name}: its number is not known here, and servers are asked by it",
            hint="give its pipeline.yaml, its folder in the store, or --number",
        )
    known = _source(target, release, source) if source else None
    try:
        asked = AskedServer(server, protocol.value, key=_key(key_file), limited_for_s=LIMITED_FOR_S)
    except ValueError as error:
        raise SpecError(f"--server {error}") from None
    with asked, _written(junit, release.name, asked.url), _naming_the_option():
        report = compare(release, version, asked, tolerance=_tolerance(lowest_cosine), source=known)
    if junit is not None or html is not None:
        _write_files(report, junit, html)
    if as_json:
        emit(report)
    else:
        _print(report)
    if not report.passed:
        raise typer.Exit(PARITY_FAILED)


@contextmanager
def _written(junit: Path | None, release: str, url: str) -> Iterator[None]:
    """Write what ends a comparison, too: a build server takes no file for an old one."""
    from embedmill.cli.parity_files import junit_of_error

    try:
        yield
    except EmbedmillError as error:
        if junit is not None:
            junit.write_bytes(junit_of_error(release, url, error))
            talk().print(f"wrote {junit}", soft_wrap=True)
        raise


@contextmanager
def _naming_the_option() -> Iterator[None]:
    """Say by which option a key is given."""
    try:
        yield
    except ServerDenied as error:
        raise ServerDenied(error.message, hint="--key-file FILE has the key that is sent") from error


def _key(file: Path | None) -> str:
    """The only line of a file: what stands in a command, every process of the machine can read."""
    if file is None:
        return ""
    try:
        key = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(f"--key-file {file}: cannot be read: {said}") from None
    if not key.isascii() or not key.isprintable() or " " in key or not key:
        raise SpecError(f"--key-file {file}: is not one line with a key alone", hint=KEY_ALONE)
    return key


def _source(target: str, release: Release, rows: int) -> Known:
    from embedmill.cli.options import open_pipeline
    from embedmill.gates.source import source_sample

    if not target.endswith((".yaml", ".yml")):
        raise SpecError("--source needs a pipeline.yaml", hint="a release does not know today's catalog")
    pipeline = open_pipeline(Path(target))
    return source_sample(release, pipeline.spec, pipeline.root, pipeline.home.store, rows)


def _tolerance(lowest: float | None) -> Tolerance | None:
    from embedmill.gates.alike import Tolerance

    return None if lowest is None else Tolerance(lowest, lowest)


def _write_files(report: ParityReport, junit: Path | None, html: Path | None) -> None:
    from embedmill.cli import parity_files

    for file, content in ((junit, parity_files.junit), (html, parity_files.parity_page)):
        if file is not None:
            file.write_bytes(content(report))
            talk().print(f"wrote {file}", soft_wrap=True)


def _print(report: ParityReport) -> None:
    data().print(_table(report))
    for encoder in report.encoders:
        if encoder.skipped:
            talk().print(f"{encoder.model} was not asked: {encoder.skipped}", style="yellow", soft_wrap=True)
    if report.passed:
        talk().print(f"{report.url} is release {report.release}, number {report.number}", soft_wrap=True)
    else:
        failed = f"{report.url} is not release {report.release}, number {report.number}"
        talk().print(failed, style="bold red", soft_wrap=True)


def _table(report: ParityReport) -> Table:
    from rich.text import Text

    words = {True: Text("pass", "green"), False: Text("FAIL", "bold red")}
    rows = [
        (encoder.model, check.check, words[check.passed], check.message)
        for encoder in report.encoders
        for check in encoder.checks
    ]
    return table("model", "check", "verdict", "found", rows=rows)
