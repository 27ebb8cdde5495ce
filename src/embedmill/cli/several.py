"""`run --all` and `status --all`: several pipelines side by side."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from embedmill.cli.failures import Interrupted
from embedmill.cli.output import data, duration, emit, table, talk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from embedmill.spec.platform import PipelineOutcome, PipelineStanding

Devices: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="With --all: loops at a time, here or on a fleet. Absent: one a core, or all idle GPUs.",
    ),
]
TurnS: TypeAlias = Annotated[
    float,
    typer.Option(
        "--turn", metavar="SECONDS", min=1.0, help="With --all: how often devices are divided by priority."
    ),
]
Seats: TypeAlias = Annotated[
    Path | None,
    typer.Option("--seats", hidden=True, help="The folder in which `run --all` says how many loops may run."),
]


IN_WORDS = {"quarantined": "published, some quarantined"}
"""Outcomes that a table says at more length than documents do."""


def run_all(paths: Sequence[Path], how: Mapping[str, Any], *, as_json: bool, quiet: bool) -> None:
    """Run all pipelines that are meant; ends with the exit code of the worst.

    Raises:
        Interrupted: Somebody stopped it; says what is kept.
    """
    from embedmill.platform.finding import find_pipelines
    from embedmill.platform.together import Together, run_together

    files = find_pipelines(paths)
    say = (lambda _: None) if quiet else (lambda note: talk().print(note, soft_wrap=True))
    try:
        report = run_together(files, Together(**how), say)
    except KeyboardInterrupt:
        again = shlex.join(["embedmill", "run", *(f"--all={path}" for path in paths), *_options(how)])
        said = "stopped; published releases and finished shards are kept"
        raise Interrupted(said, hint=f"`{again}` goes on with each pipeline") from None
    if as_json:
        emit(report)
    else:
        names = (
            "pipeline",
            "priority",
            "outcome",
            "release",
            "vectors",
            "share",
            "by priority",
            "took",
            "what it said",
        )
        rows = map(outcome_row, report.pipelines, _labels(report.pipelines))
        data().print(table(*names, rows=rows, numbers=[1, 4, 5, 6], whole=True))
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _options(how: Mapping[str, Any]) -> Iterator[str]:
    """Options of the command, as it was given them; the length of a turn does not change what comes of it."""
    yield from (f"--{name}={how[name]}" for name in ("engine", "fleet", "devices") if how.get(name))
    yield from how.get("options", ())


def _labels(pipelines: Sequence[PipelineOutcome | PipelineStanding]) -> list[str]:
    from embedmill.platform.finding import names_apart

    return names_apart([(each.pipeline, each.file) for each in pipelines])


def outcome_row(each: PipelineOutcome, label: str) -> tuple[object, ...]:
    """Cells of the table; what no spec or no pool tells is a dash."""
    late = f", after its deadline {each.deadline}" if each.late else ""
    release = f"{each.release.release} (number {each.release.number})" if each.release else "-"
    waited = each.share or each.due_share  # else no pipeline of its pool ever had to wait
    shares = [f"{part:.0%}" if waited else "-" for part in (each.share, each.due_share)]
    took = duration(each.seconds)
    outcome = f"{IN_WORDS.get(each.outcome, each.outcome)}{late}"
    return (label, each.priority or "-", outcome, release, each.computed, *shares, took, each.message)


def status_all(paths: Sequence[Path], *, as_json: bool) -> None:
    """Show how fresh each pipeline is, and how its last run ended."""
    from embedmill.platform.finding import find_pipelines
    from embedmill.platform.standing import standings_of
    from embedmill.spec.platform import StatusAllReport

    report = StatusAllReport(pipelines=standings_of(find_pipelines(paths)))
    if as_json:
        emit(report)
        return
    names = ("pipeline", "live", "age", "last run", "due", "what is wrong")
    rows = map(_standing, report.pipelines, _labels(report.pipelines))
    data().print(table(*names, rows=rows, whole=True))


def _standing(each: PipelineStanding, label: str) -> tuple[object, ...]:
    live = f"{each.live.release} (number {each.live.number})" if each.live else "nothing yet"
    age = duration(each.age_s) if each.age_s is not None else "-"
    last = f"{each.runs[0].outcome}, {each.runs[0].created}" if each.runs else "none"
    wrong = [
        *([each.error] if each.error else []),
        *([f"late: no release since the day before {each.deadline}"] if each.late else []),
        *(["on hold: runs do not publish"] if each.hold else []),
        *([each.runs[0].why] if each.runs and each.runs[0].why else []),
    ]
    return label, live, age, last, each.due or "-", "; ".join(wrong)
