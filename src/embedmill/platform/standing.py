"""How one of several pipelines stands: what is live and how old, how the last runs ended, what is due."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from embedmill.errors import EmbedmillError
from embedmill.pipeline import Pipeline
from embedmill.platform.deadlines import is_late, next_deadline
from embedmill.platform.finding import clashes
from embedmill.release.describe import items_of
from embedmill.release.history import past_runs
from embedmill.release.log import read_history
from embedmill.spec.document import written
from embedmill.spec.platform import PipelineStanding

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from embedmill.errors import SpecError
    from embedmill.release.layout import Home
    from embedmill.release.log import History

RUNS = 5
"""Newest runs that are told of."""


def standings_of(files: Sequence[Path]) -> tuple[PipelineStanding, ...]:
    """What there is to say of each; of files that are one pipeline in one store, that, too."""
    wrong = clashes(files)
    return tuple(_with_clash(standing_of(file), wrong.get(file)) for file in files)


def _with_clash(standing: PipelineStanding, clash: SpecError | None) -> PipelineStanding:
    if clash is None:
        return standing
    return standing.model_copy(update={"error": "; ".join(filter(None, (f"{clash}", standing.error)))})


def standing_of(file: Path) -> PipelineStanding:
    """What there is to say of a pipeline; an error of its spec or store is said, too."""
    try:
        return _standing(file, Pipeline.from_file(file))
    except EmbedmillError as error:
        return PipelineStanding(
            pipeline=str(file),
            file=str(file),
            priority=0,
            live=None,
            published=None,
            age_s=None,
            deadline=None,
            due=None,
            late=False,
            hold=False,
            runs=(),
            error=f"{error}",
        )


def _standing(file: Path, pipeline: Pipeline) -> PipelineStanding:
    home, spec = pipeline.home, pipeline.spec
    now, history = home.world.now(), read_history(home)
    published = _newest_publication(history)
    deadline = spec.deadline
    return PipelineStanding(
        pipeline=home.pipeline,
        file=str(file),
        priority=spec.priority,
        live=history.live,
        published=written(published) if published else None,
        age_s=(now - published).total_seconds() if published else None,
        deadline=deadline,
        due=next_deadline(deadline, now).isoformat(timespec="minutes") if deadline else None,
        late=deadline is not None and is_late(deadline, published, now),
        hold=history.hold is not None,
        runs=tuple(past_runs(home, RUNS)),
        error=_trouble(home, history),
    )


def _trouble(home: Home, history: History) -> str:
    """What is wrong with the live release, as far as a look at its documents tells."""
    found = items_of(home, history.live.release)[1] if history.live else ""
    return f"the live release: {found}" if found else ""


def _newest_publication(history: History) -> datetime | None:
    """When the live release was first published: a rollback does not make its items any younger."""
    if history.live is None:
        return None
    entry = history.publication_of(history.live.release)
    return datetime.fromisoformat(entry.created) if entry else None
