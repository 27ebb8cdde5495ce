"""The engine seam: places worker loops and reports on them. It knows nothing about embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from embedmill.types import Look, Opening, Placement, WorkerState


class Engine(Protocol):
    """Runs `embedmill worker --run <url>` somewhere. A loop that ends is not started again by itself."""

    def start(self, run_url: str, placements: Sequence[Placement]) -> None:
        """Start a loop for each placement; one that runs under that name already is left alone."""
        ...

    def states(self) -> list[WorkerState]:
        """The state of every loop that was started, under its newest start."""
        ...

    def stop(self) -> None:
        """Ask all loops to stop after their batch, wait, then end those that linger."""
        ...


@runtime_checkable
class StandsBy(Engine, Protocol):
    """An engine whose loops may start before there is a run, and open the model meanwhile."""

    def stand_by(self, runs_url: str, placements: Sequence[Placement], opening: Opening) -> None:
        """Start a loop for each placement, which waits for a run below `runs_url`.

        The next `start` tells those that it places of their run, and ends all others; so does `stop`.
        """
        ...


class Places(Protocol):
    """Where an engine may run loops. Asked before the first start, and again while work is left."""

    @property
    def again_s(self) -> float | None:
        """How often it is asked; None: once."""
        ...

    @property
    def waits(self) -> bool:
        """Whether a run waits where there is no place at all."""
        ...

    def look(self, most: int, held: Collection[str]) -> Look:
        """Places that are free, at most so many; loops of these names run already, beside them."""
        ...
