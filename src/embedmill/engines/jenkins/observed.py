"""What a Jenkins' builds and queue say of worker loops. Pure: documents of its API in, states out.

A build's parameters say whose loop it is; its description how that stands. The job's library writes it:

    (none)                               the build waits for an agent
    works on gpu-07                      the loop runs
    ended with exit code 75: …           it has ended; its last words

Builds and items of the queue have one sequence of numbers in common (`queueId`, `id`): the newest start of a
loop has the largest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedmill.errors import SpecError

if TYPE_CHECKING:
    from embedmill.types import Placement

Document = Mapping[str, Any]
RUN, WORKER, LABEL, DEVICE, THREADS = "RUN", "WORKER", "LABEL", "DEVICE", "THREADS"
GIVEN_BACK = 75
NO_WORD = 70
"""The exit code of a loop whose build ended without saying how: its agent was lost, or a step failed."""
ENDED = re.compile(r"ended with exit code (-?\d{1,3})(?:: (.*))?", re.DOTALL)
UNPRINTED = re.compile(r"[^A-Za-z0-9 .,:;/_()=+-]+")
WORDS = 400
URL = re.compile(r"[A-Za-z0-9/][A-Za-z0-9._:/@%+=~-]{0,1023}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
ON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


@dataclass(frozen=True)
class Seen:
    """What is known of one loop: `item` of the queue, `number` of the build that became of it.

    `exit_code` is None while it waits or runs; `said` has words about either. `waits`: no agent has it yet.
    """

    item: int
    number: int | None = None
    exit_code: int | None = None
    said: str = ""
    waits: bool = False


def parameters_of(run_url: str, place: Placement) -> dict[str, str]:
    """A loop as its build's parameters. None of them is a secret: those are the controller's credentials.

    Raises:
        SpecError: A text cannot stand there.
    """
    found = {
        RUN: run_url,
        WORKER: place.worker,
        LABEL: place.host.name if place.host else "",
        DEVICE: place.device,
        THREADS: str(place.threads),
    }
    check_words(run_url, (found[WORKER], found[LABEL]), place.device)
    return found


def check_words(run_url: str, names: Iterable[str], device: str = "cpu") -> None:
    """Check what gets to Jenkins, whose library checks it again.

    Raises:
        SpecError: One has characters that would need quotes.
    """
    wanted = [(run_url, URL, "the run's URL"), (device, ON, "device")]
    for text, pattern, what in [*wanted, *((name, NAME, "name") for name in names)]:
        if not pattern.fullmatch(text):
            hint = "letters, digits and ._:/@%+=~- alone, as in s3://bucket/folder"
            raise SpecError(f"engine jenkins: {what} {text!r}: cannot be a parameter of a build", hint=hint)


def ending(exit_code: int, said: str) -> str:
    """A loop's end as a build's description: in plain characters, whatever a worker wrote."""
    words = " ".join(UNPRINTED.sub(" ", said).split())[:WORDS]
    return f"ended with exit code {exit_code}{': ' if words else ''}{words}"


def observed(builds: Iterable[Document], items: Iterable[Document], run_url: str) -> dict[str, Seen]:
    """The newest start of every loop of a run, by its name."""
    found: dict[str, Seen] = {}
    told = [(each, _of_item(each)) for each in items] + [(each, _of_build(each)) for each in builds]
    for document, seen in told:
        asked = _parameters(document)
        worker = asked.get(WORKER, "")
        if asked.get(RUN) == run_url and (worker not in found or found[worker].item <= seen.item):
            found[worker] = seen
    return found


def _of_item(item: Document) -> Seen:
    return Seen(int(item.get("id") or 0), said=str(item.get("why") or ""), waits=True)


def _of_build(build: Document) -> Seen:
    item, number = int(build.get("queueId") or 0), int(build["number"])
    said = str(build.get("description") or "")
    ended = ENDED.fullmatch(said)
    if ended is not None:
        return Seen(item, number, int(ended[1]), ended[2] or "")
    if build.get("building"):
        return Seen(item, number, None, said or f"build {number} waits for an agent", waits=not said)
    if build.get("result") == "ABORTED":
        return Seen(item, number, GIVEN_BACK, f"build {number} was aborted")
    words = f"build {number} ended as {build.get('result')} without a word of its loop"
    return Seen(item, number, NO_WORD, words)


def _parameters(document: Document) -> dict[str, str]:
    found: dict[str, str] = {}
    for action in document.get("actions") or ():
        for each in (action or {}).get("parameters") or ():
            found[str(each.get("name"))] = str(each.get("value"))
    return found
