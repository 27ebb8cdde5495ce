"""`jenkins …`: what the stages of a Jenkins pipeline call, and its builds over the REST API."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from embedmill.cli.importing import take_arrows_memory_from_the_system
from embedmill.cli.options import AsJson, PipelineFile, RunName, open_pipeline
from embedmill.cli.output import data, emit, facts, table, talk
from embedmill.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedmill.spec.jenkins import JenkinsBuild, JenkinsPlan

app = typer.Typer(help="Stages of a Jenkins pipeline, and its builds.", no_args_is_help=True)

SHARDS_MISSING, STOPPED = 75, 143
To: TypeAlias = Annotated[
    Path, typer.Option("--to", metavar="FOLDER", help="Where files go; made if absent.")
]
Url: TypeAlias = Annotated[
    str, typer.Option(metavar="URL", help="The Jenkins, such as https://ci.example.org.")
]
Job: TypeAlias = Annotated[
    str, typer.Argument(metavar="JOB", help="A job, with its folders: team/nightly.", show_default=False)
]
User: TypeAlias = Annotated[str, typer.Option(metavar="NAME", help="Whose token it is.")]
TokenFile: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Has an API token of the user.")
]


@app.command()
def ask(
    fleet: Annotated[Path, typer.Argument(metavar="FLEET.yaml", help="The servers.", show_default=False)],
    to: To,
    as_json: AsJson = False,
) -> None:
    """Write what agents are asked about their GPUs: a program, and a question for each server."""
    from embedmill.deploy.jenkins.asking import questions
    from embedmill.deploy.jenkins.settings import left_out
    from embedmill.spec.loading import load_fleet_spec

    spec = load_fleet_spec(fleet)
    _write(to, questions(spec), as_json)
    if others := left_out(spec):
        talk().print(others, soft_wrap=True)


@app.command()
def plan(
    pipeline: PipelineFile,
    fleet: Annotated[Path, typer.Option(metavar="FLEET.yaml", help="The servers.")],
    facts_folder: Annotated[
        Path, typer.Option("--facts", metavar="FOLDER", help="What agents answered, SERVER.facts each.")
    ],
    to: To,
    lend: Annotated[
        str,
        typer.Option(
            metavar="NAMES", help="Variables of an agent's environment that workers get, with commas between."
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Plan a run, or find the open one, and who works on it: a branch for each idle GPU."""
    take_arrows_memory_from_the_system()
    from embedmill.deploy.jenkins.placing import place

    planned = open_pipeline(pipeline, fleet=fleet).plan()
    placed = place(planned, facts_folder, [name for name in lend.split(",") if name])
    _write_files(to, placed.files)
    if as_json:
        emit(placed.plan)
    else:
        _print_plan(placed.plan)


def _print_plan(found: JenkinsPlan) -> None:
    out = data()
    out.print(facts([("run", found.run), ("shards", f"{found.shards_done:,} of {found.shards:,} are done")]))
    rows = [(each.worker, each.label, each.gpu, each.image) for each in found.places]
    out.print(table("worker", "agent", "GPU", "image", rows=rows))
    for place, why in found.passed_over.items():
        talk().print(f"{place}: {why}", soft_wrap=True)


@app.command()
def reconcile(pipeline: PipelineFile, run: RunName = None, as_json: AsJson = False) -> None:
    """Say whether every shard of a run has a commit record: exit code 75 while some have none."""
    from embedmill.release.runs import work_state
    from embedmill.spec.jenkins import JenkinsWork

    planned = open_pipeline(pipeline).open_run(run)
    state = work_state(planned.home, planned.plan)
    if as_json:
        emit(JenkinsWork(run=planned.plan.run, shards=state.shards, shards_done=state.committed))
    else:
        done = f"{state.committed:,} of {state.shards:,}"
        data().print(facts([("run", planned.plan.run), ("shards done", done)]))
    if not state.complete:
        raise typer.Exit(SHARDS_MISSING)


@app.command()
def report(pipeline: PipelineFile, to: To, run: RunName = None, as_json: AsJson = False) -> None:
    """Write a checked run's verdicts as JUnit XML, and its report."""
    from embedmill.deploy.jenkins.reporting import report_files

    planned = open_pipeline(pipeline).open_run(run)
    _write(to, report_files(planned.home, planned.plan.run), as_json)


@app.command()
def work(
    run: Annotated[str, typer.Option(metavar="URL", help="The run.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="Of the loop.")],
    to: Annotated[
        Path, typer.Option("--to", metavar="FILE", help="Says at the end how the loop ended, in one line.")
    ],
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads a batch.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Run one worker loop of a run that is driven from elsewhere, as a build of the worker job does."""
    from embedmill.engines.jenkins.attending import attend
    from embedmill.engines.jenkins.observed import ending
    from embedmill.spec.jenkins import JenkinsLoop
    from embedmill.types import Host, Placement

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    to.unlink(missing_ok=True)
    here = Host(os.environ.get("NODE_NAME") or socket.gethostname(), (), "")  # Jenkins sets it in builds
    state = attend(run, Placement(name, device=device, threads=threads, host=here), say)
    if state is not None:
        line = ending(state.exit_code or 0, state.said)
        to.write_text(f"{line}\n", "utf-8")
        say(f"{name} {line}")
    if as_json:
        code, said = (None, "") if state is None else (state.exit_code, state.said)
        emit(JenkinsLoop(worker=name, exit_code=code, said=said))
    if state is None:
        raise typer.Exit(STOPPED)


@app.command()
def status(
    job: Job,
    url: Url,
    user: User = "",
    token_file: TokenFile = None,
    number: Annotated[int | None, typer.Option(min=1, help="Of a build; the last one if absent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what became of a build."""
    from embedmill.engines.jenkins.api import open_jenkins

    _say(open_jenkins(url, job, user, token_file).build(number), as_json)


@app.command()
def trigger(
    job: Job,
    url: Url,
    user: User = "",
    token_file: TokenFile = None,
    parameter: Annotated[
        list[str] | None, typer.Option(metavar="NAME=TEXT", help="A parameter of the build. Repeatable.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the build's end; 1 if it failed.")] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for the build, or for its end.")
    ] = 600.0,
    as_json: AsJson = False,
) -> None:
    """Start a build, and wait until it has a number."""
    from embedmill.engines.jenkins.api import open_jenkins
    from embedmill.errors import SpecError

    pairs = dict(each.partition("=")[::2] for each in parameter or ())
    if not all("=" in each for each in parameter or ()):
        raise SpecError("--parameter: expected NAME=TEXT")
    jenkins = open_jenkins(url, job, user, token_file)
    found = jenkins.wait(jenkins.trigger(pairs), ended=wait, timeout_s=timeout)
    _say(found, as_json)
    if wait and found.state != "success":
        raise typer.Exit(1)


def _say(found: JenkinsBuild, as_json: bool) -> None:
    if as_json:
        emit(found)
        return
    rows = [("job", found.job), ("build", found.number), ("state", found.state), ("url", found.url)]
    data().print(facts(rows))


def _write(folder: Path, files: Mapping[str, bytes], as_json: bool) -> None:
    from embedmill.spec.jenkins import JenkinsFiles

    written = _write_files(folder, files)
    if as_json:
        emit(JenkinsFiles(folder=str(folder), files=written))
    else:
        data().print(facts([("written", f"{counted(len(written), 'file')} in {folder}")]))


def _write_files(folder: Path, files: Mapping[str, bytes]) -> tuple[str, ...]:
    from embedmill.deploy.yaml_files import write_folder

    return tuple(write_folder(folder, files))
