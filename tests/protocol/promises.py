"""What the protocol promises, checked in every state that can be reached.

A check returns a sentence about what is broken, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.protocol.agents import Agent
from tests.protocol.publishing import Publisher
from tests.protocol.store import Objects
from tests.protocol.world import (
    Entry,
    Named,
    Plan,
    Run,
    Scenario,
    Terminal,
    content_key,
    follow,
    log_key,
    manifest_key,
    plan_key,
    read_history,
    terminal_key,
)


def broken_in(objects: Objects, scenario: Scenario) -> str:
    """The first promise that these contents break, as a sentence; empty if none."""
    said = objects.derive(_broken_for_readers)
    return said if said or scenario.only_releases else objects.derive(_broken_for_runs)


def _broken_for_readers(objects: Objects) -> str:
    return _broken_by_log(objects) or _broken_release(objects)


def _broken_for_runs(objects: Objects) -> str:
    return _broken_candidate(objects) or _broken_plan(objects) or _wrongly_closed(objects)


def _broken_by_log(objects: Objects) -> str:
    """Entry by entry: each was allowed by the history before it."""
    entries = objects.derive(read_history).entries
    for number, entry in enumerate(entries, start=1):
        said = _forbidden(objects, entry, entries[: number - 1])
        if said:
            return f"log/{number}: {said}"
    return ""


def _forbidden(objects: Objects, entry: Entry, before: tuple[Entry, ...]) -> str:
    history, (kind, release) = follow(before), entry
    if kind == "publish" and entry in before:
        return f"{release} was published twice"
    if kind == "publish" and history.hold:
        return f"{release} was published while a hold stood"
    plan = objects.get(plan_key(release))
    if kind == "publish" and isinstance(plan, Plan) and plan.base != history.live:
        return f"{release} was published on {plan.base}, but {history.live} was live"
    if kind == "rollback" and release not in history.published:
        return f"the rollback made {release} live, which was retired"
    if kind == "retire" and release == history.live:
        return f"{release} was retired while it was live"
    if kind == "retire" and release in history.pinned:
        return f"{release} was retired although it was pinned"
    if kind == "pin" and release not in history.published:
        return f"{release} was pinned after it was retired"
    return ""


def _broken_release(objects: Objects) -> str:
    """The live release, and every one that may be rolled back to, has all its files."""
    history = objects.derive(read_history)
    if not history.live:
        return "a release was live, but the log knows of none"
    for release in (history.live, *history.published):
        manifest = objects.get(manifest_key(release))
        what = "the live release" if release == history.live else "a release that may be rolled back to"
        if not isinstance(manifest, Named):
            return f"{what}, {release}, has no MANIFEST"
        for key, value in manifest.files:
            there = objects.get(key)
            if there is None:
                return f"{what}, {release}, lacks {key}"
            if there != value:
                return f"{what}, {release}, has other bytes in {key} than MANIFEST says: {there}"
    return ""


def _broken_candidate(objects: Objects) -> str:
    """As long as a run may be published, the files that its CONTENT names are there."""
    for key in objects.list("releases/"):
        run = key.split("/")[1]
        if key == content_key(run) and may_be_published(objects, run):
            missing = _missing(objects, run)
            if missing:
                return f"CONTENT of {run}, which may yet be published, names {missing}, which is gone"
    return ""


def may_be_published(objects: Objects, run: Run) -> bool:
    """Whether a run is not closed, or closed to be published under a number that is free."""
    terminal = objects.get(terminal_key(run))
    if not isinstance(terminal, Terminal):
        return run not in objects.derive(read_history).retired
    return terminal.number is not None and objects.get(log_key(terminal.number)) is None


def _missing(objects: Objects, run: Run) -> str:
    content = objects.get(content_key(run))
    files = content.files if isinstance(content, Named) else ()
    return next((key for key, value in files if objects.get(key) != value), "")


def _broken_plan(objects: Objects) -> str:
    """Releases stand alone: a plan names no other run's files, nor does CONTENT."""
    for key in objects.list("runs/"):
        plan, run = objects.get(key), key.split("/")[1]
        if isinstance(plan, Plan):
            for file in plan.salvaged:
                if file is not None and not file.startswith(f"releases/{run}/"):
                    return f"the plan of {run} names {file} in place"
    return ""


def _wrongly_closed(objects: Objects) -> str:
    """A run is closed as damaged only if its candidate cannot be published."""
    for key in objects.list("runs/"):
        run = key.split("/")[1]
        damaged = key == terminal_key(run) and objects.get(key) == Terminal(None, "damaged")
        if damaged and objects.get(content_key(run)) is not None and not _missing(objects, run):
            return f"{run} was closed as damaged, but all files of its candidate are there"
    return ""


def broken_by_report(agents: Iterable[Agent], objects: Objects) -> str:
    """Nobody reports a success without an entry, or a loss with one."""
    for agent in agents:
        if isinstance(agent, Publisher) and agent.at in {"published", "lost"}:
            published = Entry("publish", agent.run) in objects.derive(read_history).entries
            if published and agent.at == "lost":
                return f"{agent.name} reported the loss of {agent.run}, which is in the log"
            if not published and agent.at == "published":
                return f"{agent.name} reported {agent.run} as published, which is not in the log"
    return ""


def broken_by_change(before: Objects, after: Objects) -> str:
    """A shard's committed attempt never changes."""
    for key in before.list("runs/"):
        was, now = before.get(key), after.get(key)
        if "/commits/" in key and now is not None and now != was:
            return f"{key} changed from {was} to {now}"
    return ""
