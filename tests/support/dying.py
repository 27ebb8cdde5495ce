"""`python -m tests.support.dying PIPELINE.yaml STAGE`: a run that kills itself, as `kill -9` does.

planned      the plan is in the store, and no loop was started
embedding    some shards are committed, and loops work on others
embedded     all shards are committed, and loops may not be stopped yet
indexing     the candidate is being made
checked      the gates are passed
sealed       the manifest is written, and the log does not name the release yet
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

from embedmill import Pipeline
from embedmill.types import Progress

STAGES = ("planned", "embedding", "embedded", "indexing", "checked", "sealed")


def main(spec: str, stage: str) -> None:
    pipeline = Pipeline.from_file(spec)

    def on_planned(_: object) -> None:
        if stage == "planned":
            die()

    def on_progress(progress: Progress) -> None:
        at_work = progress.stage == "embed" and progress.done > 0
        over = at_work and progress.done == progress.total
        if (stage, at_work) == ("embedding", True) or (stage, over) == ("embedded", True):
            die()
        if stage == "indexing" and progress.stage not in {"plan", "embed", "fleet"}:
            die()

    if stage in {"checked", "sealed"}:
        die_after_writing(pipeline, "gates.json" if stage == "checked" else "MANIFEST.json")
    pipeline.run(on_progress=on_progress, on_planned=on_planned)


def die_after_writing(pipeline: Pipeline, name: str) -> None:
    """Die as soon as the store has an object of this name of the run's."""
    store: Any = pipeline.home.store
    for verb in ("put", "put_if_absent"):
        write = getattr(store, verb)

        def watched(key: str, *given: Any, write: Any = write, **named: Any) -> Any:
            done = write(key, *given, **named)
            if key.endswith(f"/{name}"):
                die()
            return done

        setattr(store, verb, watched)


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a killed process goes on")


if __name__ == "__main__":
    main(*sys.argv[1:])
