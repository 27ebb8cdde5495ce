"""Agents as threads, of which one runs at a time: who goes on is drawn from a seed at every store call.

    seed ──▶ Scheduler ──▶ picks the next agent ──▶ it runs to its next store call or sleep ──▶ picks …

Time is virtual: it jumps to the earliest sleeper when nobody else can go on. So a seed gives one history,
whatever the machine does, and waiting costs nothing.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

STAY = 0.8
"""How likely an agent goes on at a store call; long stretches and quick changes both occur."""

LONGEST_S = 60.0
"""Real seconds after which a simulation that does not end is an error."""


class Stuck(Exception):
    """The agents made no end."""


@dataclass
class Agent:
    """A thread and the gate before which it waits for its turn."""

    name: str
    gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    wakes_s: float = 0.0
    done: bool = False
    failure: BaseException | None = None


class Scheduler:
    """Runs agents to their ends, one at a time."""

    def __init__(self, seed: object) -> None:
        """All that is drawn, here and by the agents, comes from this seed."""
        self.random = random.Random(f"schedule {seed}")
        self.now_s = 0.0
        self.trace: list[str] = []
        self._agents: list[Agent] = []
        self._current: Agent | None = None
        self._ended = threading.Semaphore(0)

    def spawn(self, name: str, run: Callable[[], None]) -> Agent:
        """Add an agent; it starts when `run` lets it."""
        agent = Agent(name)

        def body() -> None:
            agent.gate.acquire()
            try:
                run()
            except BaseException as error:  # noqa: BLE001 - handed to whoever called `run`
                agent.failure = error
            finally:
                agent.done = True
                self._hand_over(self._next())

        threading.Thread(target=body, name=name, daemon=True).start()
        self._agents.append(agent)
        return agent

    def run(self) -> None:
        """Let all agents run to their ends.

        Raises:
            Stuck: They did not come to an end.
            BaseException: The first failure of an agent.
        """
        self._hand_over(self._next())
        if not self._ended.acquire(timeout=LONGEST_S):
            raise Stuck(
                f"no end after {LONGEST_S} s and {len(self.trace)} calls; the last: {self.trace[-5:]}"
            )
        for agent in self._agents:
            if agent.failure is not None:
                raise agent.failure

    def note(self, what: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self.now_s:.3f} {self.name}: {what}")

    @property
    def name(self) -> str:
        """Who runs."""
        return self._current.name if self._current else "nobody"

    def turn(self) -> None:
        """Let others run, perhaps: called before every store call."""
        if self._current is None or self.random.random() < STAY:
            return
        self._switch()

    def sleep(self, seconds: float) -> None:
        """Let others run, until the time has come."""
        if self._current is None:
            self.now_s += seconds
            return
        self._current.wakes_s = self.now_s + seconds
        self._switch()

    def _switch(self) -> None:
        agent, following = self._current, self._next()
        if agent is not None and following is not agent:
            self._hand_over(following)
            agent.gate.acquire()

    def _next(self) -> Agent | None:
        """One that can go on; if all sleep, the one that wakes first."""
        alive = [agent for agent in self._agents if not agent.done]
        if not alive:
            return None
        ready = [agent for agent in alive if agent.wakes_s <= self.now_s]
        if ready:
            return self.random.choice(ready)
        first = min(alive, key=lambda agent: agent.wakes_s)
        self.now_s = first.wakes_s
        return first

    def _hand_over(self, agent: Agent | None) -> None:
        self._current = agent
        (agent.gate if agent is not None else self._ended).release()
