"""Runs several pipelines at once: a process each, so that none can harm another; devices go by priority.

files ─▶ members (spec, pool) ─▶ processes ─┬▶ standings ─▶ turns ─▶ seats ─┐
                                            └───────────────────────────────┘

A process starts when few enough others plan, since a plan takes memory, scratch space and every core.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from embedmill.cores import EVERY, cores
from embedmill.errors import EmbedmillError, SpecError
from embedmill.platform.deadlines import next_deadline
from embedmill.platform.finding import clashes, names_apart
from embedmill.platform.turns import Turn, Turns
from embedmill.seats import SeatFolder, Standing
from embedmill.spec import PipelineSpec, load_pipeline_spec
from embedmill.spec.documents import ReleaseName
from embedmill.spec.platform import PipelineOutcome, RunAllReport
from embedmill.words import counted

LOOK_S = 0.25
GRACE_S = 30.0
"""What a run has to stop its workers in order; they have 10 s."""

PLANS_AT_ONCE = max(2, cores())
"""Never one alone: it may wait for a database or a bucket, while another computes."""
PLAN_TURN_S = 600.0
"""Whoever has planned for so long keeps nobody waiting any more: it may hang."""
NAMED = 5

OUTCOMES = {0: "published", 4: "quarantined", 3: "not published", 75: "try again", 130: "stopped"}
WITH_QUARANTINE = 4
WORST_FIRST = (1, 2, 3, 75, 130, 4, 0)
LOCAL = "local"
OnNote = Callable[[str], None]


@dataclass(frozen=True)
class Together:
    """How pipelines run together. `devices`: of each pool, None: as many as there are. `options` of `run`."""

    turn_s: float = 60.0
    devices: int | None = None
    engine: str | None = None
    fleet: Path | None = None
    options: tuple[str, ...] = ()


@dataclass
class _Member:
    """One pipeline: its process, once it runs, and what became of it."""

    file: Path
    spec: PipelineSpec | None
    pool: str
    due: datetime | None = None
    message: str = ""
    exit_code: int | None = None
    document: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    out: IO[bytes] | None = None
    seats: SeatFolder | None = None
    seconds: float = 0.0
    started_s: float = 0.0
    waited: bool = False
    """Whether others planned when it could have begun."""
    label: str = ""
    """What lines call it: its name, or more where another has that, too."""

    @property
    def name(self) -> str:
        return self.spec.name if self.spec else str(self.file)

    @property
    def key(self) -> str:
        return str(self.file)

    def keeps_others_waiting(self, now_s: float) -> bool:
        """Whether it plans, and has not done so for too long."""
        plans = self.seats is not None and self.exit_code is None and not self.seats.has_told()
        return plans and now_s - self.started_s < PLAN_TURN_S


def run_together(files: Sequence[Path], how: Together, on_note: OnNote = lambda _: None) -> RunAllReport:
    """Run these pipelines to their ends; what one does is nothing to the others.

    Raises:
        KeyboardInterrupt: Somebody stopped this process; all runs were stopped in order before.
    """
    began_s, began = time.monotonic(), datetime.now(UTC)
    wrong = clashes(files)
    members = [_member(file, how, wrong.get(file), began) for file in files]
    for member, label in zip(members, names_apart([(each.name, each.key) for each in members]), strict=True):
        member.label = label
    accounts = {each.key: _account(each, began, began_s) for each in members}
    pools = {
        pool: Turns({each.key: accounts[each.key] for each in members if each.pool == pool}, how.turn_s)
        for pool in {each.pool for each in members}
    }
    with tempfile.TemporaryDirectory(prefix="embedmill-") as scratch, _all_ended(members):
        _start_next(members, Path(scratch), how, on_note)
        _tell_who_waits(members, on_note)
        while running := [each for each in members if each.exit_code is None]:
            for pool, turns in pools.items():
                _divide([each for each in running if each.pool == pool], turns, how.devices)
            time.sleep(LOOK_S)
            for each in running:
                _look(each, began_s, on_note)
            _start_next(members, Path(scratch), how, on_note)
    outcomes = tuple(
        _outcome(each, accounts[each.key], list(pools[each.pool].accounts.values()), began, began_s)
        for each in members
    )
    codes = {each.exit_code for each in outcomes}
    worst = next((code for code in WORST_FIRST if code in codes), 1)
    return RunAllReport(exit_code=worst, pipelines=outcomes, seconds=round(time.monotonic() - began_s, 3))


def _member(file: Path, how: Together, clash: SpecError | None, began: datetime) -> _Member:
    """A pipeline; one whose spec is wrong, or that another file is, too, has ended already."""
    try:
        spec = load_pipeline_spec(file)
    except EmbedmillError as error:
        return _Member(file, None, "", message=f"{error}", exit_code=error.exit_code)
    due = next_deadline(spec.deadline, began) if spec.deadline else None
    if clash is not None:
        return _Member(file, spec, "", due, f"{clash}", clash.exit_code)
    engines = how.engine or ",".join(spec.engines)
    if "ssh" not in engines.split(","):
        return _Member(file, spec, engines, due)
    fleet = how.fleet or file.absolute().parent / (spec.fleet or "")
    return _Member(file, spec, f"{engines} {fleet.resolve()}", due)


def _account(member: _Member, began: datetime, began_s: float) -> Turn:
    priority = member.spec.priority if member.spec else 1
    if member.due is None:
        return Turn(priority)
    return Turn(priority, deadline_s=began_s + (member.due - began).total_seconds())


def _start_next(members: Sequence[_Member], scratch: Path, how: Together, on_note: OnNote) -> None:
    """Start as many as may plan beside those that do, by priority; a plan waits for nothing of another's."""
    now_s = time.monotonic()
    free = PLANS_AT_ONCE - sum(each.keeps_others_waiting(now_s) for each in members)
    for member in _waiting(members)[: max(0, free)]:
        try:
            _start(member, scratch / str(members.index(member)), how)
        except OSError as error:  # no memory, process or scratch space left; the others have theirs
            member.exit_code, member.seconds = 1, time.monotonic() - member.started_s
            member.message = f"its process could not be started: {error}"
            on_note(f"{member.label}: failed: {member.message}")


def _waiting(members: Sequence[_Member]) -> list[_Member]:
    """Those that have no process yet, by priority; of equals first whose deadline is next."""
    waiting = [each for each in members if each.exit_code is None and each.process is None]
    return sorted(waiting, key=_rank)


def _rank(member: _Member) -> tuple[int, float]:
    due_s = member.due.timestamp() if member.due else math.inf
    return -member.spec.priority if member.spec else 0, due_s


def _tell_who_waits(members: Sequence[_Member], on_note: OnNote) -> None:
    if waiting := _waiting(members):
        for each in waiting:
            each.waited = True
        names = ", ".join(each.label for each in waiting[:NAMED])
        names += ", …" if len(waiting) > NAMED else ""
        wait = counted(len(waiting), "pipeline waits", "pipelines wait")
        on_note(f"{wait} for a turn to plan, {PLANS_AT_ONCE} plan at a time: {names}")


def _start(member: _Member, folder: Path, how: Together) -> None:
    """Start `embedmill run` for it, in a session of its own: Ctrl-C reaches this process alone."""
    member.started_s = time.monotonic()
    folder.mkdir()
    member.seats = SeatFolder(folder)
    member.out = (folder / "out").open("w+b")
    command = [sys.executable, "-m", "embedmill", "run", str(member.file), "--json", "--quiet"]
    command += ["--seats", str(folder), *how.options]
    command += ["--engine", how.engine] if how.engine else []
    command += ["--fleet", str(how.fleet)] if how.fleet else []
    member.process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=member.out,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ),
        start_new_session=True,
    )


def _divide(members: Sequence[_Member], turns: Turns, devices: int | None) -> None:
    """Read how the runs of a pool stand, and tell each how many loops it may have."""
    folders = {each.key: each.seats for each in members if each.seats is not None}
    standings = {name: folder.standing() for name, folder in folders.items()}
    if not standings:
        return
    count = devices or devices_of(members[0].pool, list(standings.values()))
    for name, seats in turns.divide(standings, count, time.monotonic()).items():
        if folders[name].granted() != seats:
            folders[name].grant(seats)


def devices_of(pool: str, standings: Sequence[Standing]) -> int:
    """Cores of this machine; of a fleet the GPUs that runs have, and those that a run found idle last."""
    if pool == LOCAL:
        return cores(EVERY)
    return sum(each.running for each in standings) + max(each.spare for each in standings)


def _look(member: _Member, began_s: float, on_note: OnNote) -> None:
    """See whether it has ended, and what it said."""
    code = member.process.poll() if member.process else None
    if code is None or member.out is None:
        return
    member.exit_code = code if code in OUTCOMES or code == 2 else 1
    member.seconds = time.monotonic() - began_s
    member.out.seek(0)
    try:
        member.document = json.loads(member.out.read())
    except ValueError:
        member.document = {}
    error = member.document.get("error", {})
    member.message = " ".join(
        filter(None, (error.get("message"), f"({error['hint']})" if error.get("hint") else ""))
    )
    if code < 0:
        member.message = f"was ended by signal {-code}"
    if code == WITH_QUARANTINE and (count := member.document.get("quarantined")):
        command = shlex.join(["embedmill", "release", "show", member.key, "--quarantine"])
        items = counted(count, "item is", "items are")
        them = "it" if count == 1 else "them"
        member.message = f"published; {items} quarantined (`{command}` lists {them})"
    word = OUTCOMES.get(member.exit_code, "failed")
    on_note(f"{member.label}: {word}{f': {member.message}' if member.message else ''}")


@contextmanager
def _all_ended(members: Sequence[_Member]) -> Iterator[None]:
    """No run outlives the block: asked to stop first, so that workers stop in order."""
    try:
        yield
    finally:
        running = [each.process for each in members if each.process and each.process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for each in members:
            if each.out is not None:
                each.out.close()


def _outcome(
    member: _Member, account: Turn, pool: Sequence[Turn], began: datetime, began_s: float
) -> PipelineOutcome:
    spec, found = member.spec, member.document
    due = member.due
    release = None
    if "release" in found:
        release = ReleaseName(release=found["release"], number=found["number"])
    return PipelineOutcome(
        pipeline=member.name,
        file=str(member.file),
        priority=spec.priority if spec else 0,
        outcome=OUTCOMES.get(member.exit_code or 0, "failed"),  # type: ignore[arg-type]
        exit_code=member.exit_code or 0,
        message="; ".join(filter(None, (member.message, _wait(member, began_s)))),
        release=release,
        computed=found.get("computed", 0),
        devices=member.pool,
        device_s=round(account.used_s, 1),
        share=_part(account.contended_s, [each.contended_s for each in pool]),
        due_share=_part(account.due_s, [each.due_s for each in pool]),
        seconds=round(member.seconds, 3),
        deadline=spec.deadline if spec else None,
        late=due is not None and (release is None or (began.timestamp() + member.seconds) > due.timestamp()),
    )


def _wait(member: _Member, began_s: float) -> str:
    return f"waited {member.started_s - began_s:.0f} s for its turn to plan" if member.waited else ""


def _part(own: float, everybody: Sequence[float]) -> float:
    return round(own / sum(everybody), 3) if sum(everybody) else 0.0
