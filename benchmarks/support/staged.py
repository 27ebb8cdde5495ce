"""A run, stage by stage, in a process of its own: prints the seconds of each, and of loops', as JSON.

python -m benchmarks.support.staged PIPELINE.YAML
"""

from __future__ import annotations

import json
import os
import sys
import time

from embedmill import Pipeline
from embedmill.release.shares import loop_states


class Clock:
    """Seconds of the stages that followed each other, and those of cores."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self._stage, self._since, self._cpu = "", time.perf_counter(), busy_s()

    def stage(self, name: str) -> None:
        """The one before has ended, and this one begins; the empty name ends the last."""
        now, cpu = time.perf_counter(), busy_s()
        if self._stage:
            self.stages[self._stage] = self.stages.get(self._stage, 0.0) + now - self._since
            self.cpu[self._stage] = self.cpu.get(self._stage, 0.0) + cpu - self._cpu
        self._stage, self._since, self._cpu = name, now, cpu


def busy_s() -> float:
    """Seconds that cores were busy with this process, and with those it started that have ended."""
    return sum(os.times()[:4])


def main() -> None:
    clock, began = Clock(), time.perf_counter()
    clock.stage("plan")
    pipeline = Pipeline.from_file(sys.argv[1])
    planned = pipeline.plan(engine=pipeline.standby())
    clock.stage("work")
    planned.work()
    clock.stage("index: begin")
    loops = [loop.stages for loop in loop_states(planned.home, planned.plan)]
    content = planned.index(lambda progress: clock.stage(progress.stage))
    clock.stage("check")
    gates = planned.check()
    clock.stage("publish")
    planned.publish(gates)
    clock.stage("")
    found = {
        "stages": clock.stages,
        "cpu": clock.cpu,
        "loops": loops,
        "whole": time.perf_counter() - began,
        "computed": content.computed,
        "shards": len(planned.plan.shards),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
