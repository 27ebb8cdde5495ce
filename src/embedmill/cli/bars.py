"""Progress bars on a terminal, one line a stage: count, items/s, time left, reused, failed."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Display
from rich.text import Text

from embedmill.cli.output import duration, talk
from embedmill.cli.progress import Stillness, amount, announcement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedmill.spec.documents import Plan
    from embedmill.types import Progress

ROOMY = 100
"""Columns from which on there is room for a bar beside figures of seven digits."""

STEPS = "index"
"""Stages that count no rows share one bar, which names the current step."""


@contextlib.contextmanager
def showing_bars() -> Iterator[Bars]:
    """Bars that stay on screen as they were at the end."""
    console = talk()
    roomy = console.width >= ROOMY
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}", markup=False),
        *([BarColumn(bar_width=10)] if roomy else []),
        _Figures("  " if roomy else " "),
    )
    with Display(*columns, console=console) as display:
        bars = Bars(display)
        yield bars
        bars.finish()


class Bars:
    """Shows each stage as a bar."""

    def __init__(self, display: Display) -> None:
        """Show nothing yet."""
        self._display = display
        self._tasks: dict[str, TaskID] = {}
        self._reused = 0
        self._stillness = Stillness()

    def planned(self, plan: Plan, *, resumed: bool) -> None:
        """Say what is going to happen."""
        self.finish()
        self._reused = plan.reused_vectors
        self._display.console.print(announcement(plan, resumed=resumed))

    def __call__(self, progress: Progress) -> None:
        """Move the stage's bar, or start it; a note stands above the bars."""
        if progress.note:
            self._display.console.print(f"{progress.stage}: {progress.note}", markup=False, soft_wrap=True)
            return
        steps = progress.unit == "steps"
        name, step = (STEPS, progress.stage) if steps else (progress.stage, "")
        if name not in self._tasks:
            self.finish()
            self._tasks[name] = self._display.add_task(
                name, total=progress.total, completed=progress.done, step=step, notes="", unit=progress.unit
            )
        notes = f"{self._reused:,} reused, {progress.failed:,} failed" if name == "embed" else ""
        still = self._stillness.said(progress, time.monotonic())
        notes = f"{notes}; {still}" if still else notes
        self._display.update(
            self._tasks[name], completed=progress.done, total=progress.total, step=step, notes=notes
        )

    def finish(self) -> None:
        """Stages that do not know their total are done when the next one starts."""
        for task in self._display.tasks:
            if task.total is None:
                done = max(task.completed, 1)
                self._display.update(task.id, total=done, completed=done)


class _Figures(ProgressColumn):
    """`1,024/3,700  512/s  5.2 s left  3,000 reused, 0 failed`; the time taken when done."""

    def __init__(self, gap: str) -> None:
        """`gap` stands between the figures."""
        super().__init__()
        self._gap = gap

    def render(self, task: Task) -> Text:
        took = duration(task.elapsed or 0.0)
        if task.fields["step"]:
            return Text(took if task.finished else f"{task.fields['step']}, {took}", no_wrap=True)
        unit = task.fields["unit"]
        total = "" if task.finished or task.total is None else f"/{amount(round(task.total), unit)}"
        words = [f"{amount(round(task.completed), unit)}{total}"]
        speed = task.finished_speed or task.speed
        if speed:
            words.append(f"{amount(round(speed), unit)}/s")
        if task.finished:
            words.append(took)
        elif speed and task.remaining is not None:
            words.append(f"{duration(task.remaining / speed)} left")
        return Text(self._gap.join([*words, *filter(None, [task.fields["notes"]])]), no_wrap=True)
