"""Which pipeline may use how many devices: by priority, in turns. Pure: who asks tells the time.

Each pipeline is due a part of the devices, which may be a fraction, such as 1, 0.5 and 0.5 of two. It has
the whole ones always; the others go round, each turn to whom most is owed of the time before. Between turns a
seat that nobody wants is given away at once, and none is taken from anyone. One that moves is free only when
the loop on it has left, so that a device never has two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedmill.seats import Standing

URGENT = 8
"""How many times its priority counts whose deadline will be missed otherwise."""

MEMORY = 4
"""Turns of one device that are owed at most: who had to wait for long does not keep all others waiting."""


@dataclass
class Turn:
    """One pipeline's account, in device seconds: what it used, and of that while others had to wait.

    `due_s` is what it would have used then, had devices been divisible; `owed_s` what it lacks.
    """

    priority: int
    deadline_s: float | None = None
    used_s: float = 0.0
    contended_s: float = 0.0
    due_s: float = 0.0
    owed_s: float = 0.0
    seats: int = 0
    done: int = 0
    left: int | None = None

    def is_urgent(self, now_s: float, part: float) -> bool:
        """Whether what is left takes longer, on so many devices, than there is until the deadline."""
        if self.deadline_s is None or not self.done or not self.left:
            return False
        needs_s = self.left * self.used_s / self.done / max(part, 1e-9)
        return now_s + needs_s > self.deadline_s

    def see(self, standing: Standing, seconds: float, *, due: float, contended: bool, most_s: float) -> None:
        """Account for the time since the last look, and for shards that were finished in it."""
        used_s = standing.running * seconds
        self.used_s += used_s
        if contended:
            self.contended_s += used_s
            self.due_s += due * seconds
        owed_s = self.owed_s + due * seconds - used_s
        self.owed_s = max(-most_s, min(most_s, owed_s)) if standing.wanted else 0.0
        if self.left is not None and standing.left < self.left:
            self.done += self.left - standing.left
        self.left = standing.left


@dataclass
class Turns:
    """The accounts of pipelines that share one pool of devices, by name; `turn_s`: how long a turn is."""

    accounts: dict[str, Turn]
    turn_s: float
    _looked_s: float | None = None
    _divided_s: float | None = None
    _goal: dict[str, int] = field(default_factory=dict)

    def divide(self, standings: Mapping[str, Standing], devices: int, now_s: float) -> dict[str, int]:
        """Seats by name, from now on; `standings` has those that still run, `devices` how many there are."""
        wanted = {name: each.wanted for name, each in standings.items()}
        due = self._due(wanted, devices, now_s)
        seconds = 0.0 if self._looked_s is None else now_s - self._looked_s
        self._looked_s, contended = now_s, sum(wanted.values()) > devices
        for name, standing in standings.items():
            self.accounts[name].see(
                standing, seconds, due=due[name], contended=contended, most_s=MEMORY * self.turn_s
            )
        if self._divided_s is None or now_s - self._divided_s >= self.turn_s:
            self._divided_s, self._goal = now_s, {}
        self._goal = self._divided(wanted, due, devices)
        return self._granted(standings, devices)

    def _due(self, wanted: Mapping[str, int], devices: int, now_s: float) -> dict[str, float]:
        """Parts by priority; of those who will be late otherwise, by more."""
        weights = {name: self.accounts[name].priority for name in wanted}
        due = parts(wanted, weights, devices)
        urgent = [name for name in wanted if self.accounts[name].is_urgent(now_s, due[name])]
        if not urgent:
            return due
        return parts(wanted, {**weights, **{name: weights[name] * URGENT for name in urgent}}, devices)

    def _divided(self, wanted: Mapping[str, int], due: Mapping[str, float], devices: int) -> dict[str, int]:
        """Whole devices that are due, what each had in this turn, then seat by seat to whom most is owed."""
        goal = {name: min(self._goal.get(name, int(due[name] + 1e-9)), wanted[name]) for name in wanted}
        while sum(goal.values()) < devices:
            open_to = [name for name in wanted if goal[name] < wanted[name]]
            if not open_to:
                break
            goal[min(open_to, key=lambda name: self._rank(name, due[name] - goal[name]))] += 1
        return goal

    def _rank(self, name: str, lacks: float) -> tuple[float, int, str]:
        """Who is next: what is owed now and at this turn's end; of equals the one with more priority."""
        account = self.accounts[name]
        return -round(account.owed_s + lacks * self.turn_s, 6), -account.priority, name

    def _granted(self, standings: Mapping[str, Standing], devices: int) -> dict[str, int]:
        """The goal, as far as devices are free: loops that are leaving still have theirs."""
        for name, goal in self._goal.items():
            self.accounts[name].seats = min(self.accounts[name].seats, goal)
        taken = sum(max(self.accounts[name].seats, each.running) for name, each in standings.items())
        for name, each in standings.items():
            account = self.accounts[name]
            while account.seats < self._goal[name] and (account.seats < each.running or taken < devices):
                taken += account.seats >= each.running
                account.seats += 1
        return {name: self.accounts[name].seats for name in standings}


def parts(wanted: Mapping[str, int], weights: Mapping[str, int], devices: int) -> dict[str, float]:
    """Devices divided by weight, fractions of them too; nobody gets more than it wants, the rest goes on."""
    found = dict.fromkeys(wanted, 0.0)
    left, open_to = float(devices), [name for name, count in wanted.items() if count]
    while open_to:
        each = left / sum(weights[name] for name in open_to)
        content = [name for name in open_to if wanted[name] <= each * weights[name]]
        for name in content or open_to:
            found[name] = float(wanted[name]) if content else each * weights[name]
            left -= found[name]
        open_to = [name for name in open_to if name not in content] if content else []
    return found
