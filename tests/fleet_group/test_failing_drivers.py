"""Whatever of NVML fails: an answer comes in time, tells only what was learned, and calls nothing idle."""

from __future__ import annotations

import json
import random
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.fake_gpus import SOURCE, FakeGpu, FakeMig, FakeProcess, Scenario

from embedmill.devices.reach import run_there
from embedmill.fleet.idle import judge
from embedmill.spec.fleet import FleetSpec
from embedmill.spec.host import HostFacts

FUNCTIONS = sorted(set(re.findall(r"\bnvml[A-Z]\w+(?=\()", SOURCE.read_text())) - {"nvmlErrorString"})
CODES = (1, 3, 4, 13, 15, 16, 999)
DEADLINE_S = 2.0
SPEC = FleetSpec.model_validate({"servers": {"gpu": None}, "idle": {"window_s": 0.2, "every_s": 0.1}})
MIB = 1 << 20
STRANGER = 1
"""A pid that is always there."""


def broken(chance: random.Random) -> Scenario:
    """Two or three GPUs, the first one with a process, and one to four functions that fail or hang."""
    device = FakeMig("MIG-1", used_mib=3000)
    gpus = [
        FakeGpu("GPU-0", "Tesla V100-SXM2-32GB", 32768, 900, utilisation=(0,), cc="7.0"),
        FakeGpu("GPU-1", "Tesla T4", 15360, 3, utilisation=(0,)),
        FakeGpu("GPU-2", "NVIDIA A100-SXM4-40GB", 40960, 3000, mig=1, migs=(device,), cc="8.0"),
    ][: chance.randint(2, 3)]
    failing = {
        function + chance.choice(["", " gpu=0", " gpu=1"]): chance.choice(CODES)
        for function in chance.sample(FUNCTIONS, chance.randint(1, 4))
    }
    hanging = {chance.choice(FUNCTIONS): 60} if chance.random() < 0.3 else {}
    return Scenario(gpus, [FakeProcess(0, STRANGER, 700)], fail=failing, hang=hanging)


@pytest.mark.soak(quick=8, large=200)
def test_a_busy_gpu_is_never_called_idle_whatever_fails(
    seed: int, tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = broken(random.Random(seed))
    for name, value in scenario.environment(library, tmp_path / "scenario").items():
        monkeypatch.setenv(name, value)
    asked = {"window_s": 0.2, "every_s": 0.1, "deadline_s": DEADLINE_S}
    answer = run_there((), "host", data=json.dumps(asked).encode(), timeout_s=DEADLINE_S + 120)
    assert answer.code == 0, (answer.words, scenario.text())
    facts = HostFacts.from_bytes(answer.out, scenario.text())
    for gpu in facts.gpus:
        known = scenario.gpus[gpu.index]
        assert (gpu.uuid, gpu.memory_bytes) == (known.uuid, known.memory_mib * MIB), scenario.text()
    verdicts = judge("gpu", SPEC, facts, now=datetime.now(UTC))
    assert {"GPU-0", "MIG-1"} & {each.uuid for each in verdicts if each.state == "idle"} == set(), (
        scenario.text(),
        verdicts,
    )
    if len(facts.gpus) < len(scenario.gpus):
        assert facts.problems, scenario.text()
