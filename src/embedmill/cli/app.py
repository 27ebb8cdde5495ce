"""All commands, and the way in: one place where errors become words and exit codes."""

from __future__ import annotations

import atexit
import contextlib
import copy
import gc
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from typer.main import get_command_name

from embedmill.cli import (
    deploying,
    diagnosis,
    environment,
    fetching,
    fleet_commands,
    fleet_joining,
    fleet_proving,
    fleets,
    image_proving,
    images,
    jenkins,
    jenkins_files,
    matching,
    models,
    pipelines,
    proving,
    releases,
    reporting,
    rolling_out,
    schemas,
    searching,
    serving,
    stages,
    starting,
    stores,
    upkeep,
    verifying,
)
from embedmill.cli.failures import report
from embedmill.cli.root import Root
from embedmill.cli.warnings import showing_warnings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typer.models import CommandInfo

app = typer.Typer(
    cls=Root,
    name="embedmill",
    help="Turns whole catalogs into embeddings, and publishes them with model and index as one release.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

GROUPS = (
    starting,
    pipelines,
    reporting,
    searching,
    fetching,
    serving,
    verifying,
    proving,
    stages,
    schemas,
    diagnosis,
    environment,
)
for group in GROUPS:
    group.register(app)
upkeep.register(releases.app)
app.add_typer(releases.app, name="release", rich_help_panel=searching.PANEL)
rolling_out.register(deploying.app)
jenkins_files.register(deploying.app)
app.add_typer(deploying.app, name="deploy", rich_help_panel=searching.PANEL)
matching.register(fleets.app)
fleet_proving.register(fleets.app)
fleet_commands.register(fleets.app)
fleet_joining.register(fleets.app)
fleet_joining.register_node(app)
app.add_typer(fleets.app, name="fleet", rich_help_panel=pipelines.PANEL)
image_proving.register(images.app)
app.add_typer(images.app, name="images", rich_help_panel=searching.PANEL)
app.add_typer(jenkins.app, name="jenkins", rich_help_panel=pipelines.PANEL)
app.add_typer(models.app, name="model", rich_help_panel=starting.PANEL)
app.add_typer(stores.app, name="store", rich_help_panel=diagnosis.PANEL)


def _version(asked: bool) -> None:
    if asked:
        from embedmill import __version__

        print(f"embedmill {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _asked(given: Sequence[str]) -> typer.Typer:
    """The command or group that the first word names; all where it names none.

    Typer makes every command that it is given on each start, which takes longer than a short command.
    """
    asked = copy.copy(app)
    asked.registered_commands = [each for each in app.registered_commands if [_name(each)] == given[:1]]
    asked.registered_groups = [each for each in app.registered_groups if [each.name] == given[:1]]
    return asked if asked.registered_commands or asked.registered_groups else app


def _name(command: CommandInfo) -> str | None:
    return command.name or (get_command_name(command.callback.__name__) if command.callback else None)


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Either one ends a command in order; `worker` then sets handlers of its own."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    atexit.register(gc.freeze)  # Python's last collection takes as long as a short command, and frees nothing
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    try:
        with _sigterm_as_ctrl_c(), showing_warnings(quiet=not {"--quiet", "-q"}.isdisjoint(given)):
            code = _asked(given)(given, prog_name="embedmill", standalone_mode=False)
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the boundary: everything becomes words
        return report(error, given, as_json=as_json)
    return code if isinstance(code, int) else 0
