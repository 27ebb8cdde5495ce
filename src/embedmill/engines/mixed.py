"""Several engines on one run: each loop is one engine's, as its placement says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from embedmill.errors import EmbedmillError, SpecError
from embedmill.types import WorkerState

if TYPE_CHECKING:
    from embedmill.engines.base import Engine
    from embedmill.types import Placement

LOST = 255


class MixedEngine:
    """Engines by name. One that cannot start its loops does not end the run while another works."""

    def __init__(self, parts: Mapping[str, Engine]) -> None:
        """Start nothing yet. `parts` are engines by what `Placement.engine` calls them."""
        self.parts = dict(parts)
        self._absent: dict[str, WorkerState] = {}
        """Loops that their engine could not start."""

    def start(self, run_url: str, placements: Sequence[Placement]) -> None:
        """Start each loop on its own engine, all engines at once.

        Loops of an engine that fails count as lost, and say why: the next look for places tries them again.

        Raises:
            EmbedmillError: An engine failed, and no loop runs on any other.
            SpecError: A placement is of no engine that there is.
        """
        wanted: dict[str, list[Placement]] = defaultdict(list)
        for place in placements:
            wanted[place.engine].append(place)
        for name in wanted.keys() - self.parts.keys():
            raise SpecError(
                f"no engine {name!r} works on this run", hint=f"there are {', '.join(self.parts)}"
            )
        failed = self._each({name: _start(self.parts[name], run_url, wanted[name]) for name in wanted})
        for name, places in wanted.items():
            for place in places:
                self._absent.pop(place.worker, None)
                if name in failed:
                    words = f"engine {name}: {failed[name]}"
                    self._absent[place.worker] = WorkerState(place.worker, LOST, words)
        if failed and not any(state.exit_code is None for state in self.states()):
            raise next(iter(failed.values()))

    def states(self) -> list[WorkerState]:
        """Of all engines, one after the other."""
        told = [state for part in self.parts.values() for state in part.states()]
        return [*(state for state in told if state.worker not in self._absent), *self._absent.values()]

    def stop(self) -> None:
        """Stop all engines at once, and wait for all of them."""
        failed = self._each({name: part.stop for name, part in self.parts.items()})
        self._absent.clear()
        for error in failed.values():
            raise error

    def _each(self, calls: Mapping[str, Callable[[], None]]) -> dict[str, EmbedmillError]:
        """Make all calls at once: what failed, by name."""
        failed = {}
        with ThreadPoolExecutor(max(1, len(calls)), thread_name_prefix="engines") as pool:
            made = {name: pool.submit(call) for name, call in calls.items()}
        for name, each in made.items():
            try:
                each.result()
            except EmbedmillError as error:
                failed[name] = error
        return failed


def _start(part: Engine, run_url: str, places: Sequence[Placement]) -> Callable[[], None]:
    return lambda: part.start(run_url, places)
