"""Devices follow priorities: over time, without idle ones, never two loops on one, and nobody starves."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from embedmill.platform.turns import MEMORY, Turn, Turns, parts
from embedmill.seats import Standing


@dataclass
class World:
    """Runs that do as their seats say: a loop that has to go leaves after `leaves_after` looks."""

    turns: Turns
    devices: int
    left: dict[str, float]
    shard_s: float = 1.0
    leaves_after: int = 1
    now_s: float = 0.0
    running: dict[str, int] = field(default_factory=dict)
    going: dict[str, list[int]] = field(default_factory=dict)
    busiest: int = 0
    idle: int = 0

    def step(self) -> None:
        """A second."""
        standings = {
            name: Standing(int(left + 0.999), self.running.get(name, 0), self.devices)
            for name, left in self.left.items()
            if left > 0
        }
        seats = self.turns.divide(standings, self.devices, self.now_s)
        for name, count in seats.items():
            running = self.running.get(name, 0)
            if running > count:
                waits = self.going.setdefault(name, [])
                waits.append(1)
                if len(waits) >= self.leaves_after:
                    self.running[name], self.going[name] = count, []
            else:
                self.running[name] = count
        for name in list(self.running):
            if name not in standings:
                del self.running[name]
        busy = sum(self.running.values())
        self.busiest = max(self.busiest, busy)
        if sum(standing.wanted for standing in standings.values()) >= self.devices:
            self.idle += max(0, self.devices - busy)
        for name, count in self.running.items():
            self.left[name] -= count / self.shard_s
        self.now_s += 1

    def used_s(self) -> dict[str, float]:
        return {name: account.used_s for name, account in self.turns.accounts.items()}


def world(devices: int, left: float = 1e6, *, turn_s: float = 60.0, **priorities: int) -> World:
    accounts = {name: Turn(priority) for name, priority in priorities.items()}
    return World(Turns(accounts, turn_s), devices, dict.fromkeys(priorities, left))


def test_three_pipelines_on_two_devices_get_what_their_priorities_say() -> None:
    three = world(2, a=20, b=10, c=10)
    for _ in range(6000):
        three.step()
    used_s = three.used_s()
    shares = {name: seconds / sum(used_s.values()) for name, seconds in used_s.items()}
    print({name: f"{share:.3f}" for name, share in shares.items()})  # noqa: T201
    assert abs(shares["a"] - 0.5) < 0.01
    assert abs(shares["b"] - 0.25) < 0.01
    assert abs(shares["c"] - 0.25) < 0.01
    assert three.busiest == 2


def test_who_is_due_a_whole_device_keeps_it_and_the_others_go_round() -> None:
    three = world(2, a=20, b=10, c=10)
    seen = []
    for _ in range(600):
        three.step()
        seen.append(dict(three.running))
    assert {each["a"] for each in seen[1:]} == {1}
    changes = sum(before.get("b") != after.get("b") for before, after in pairwise(seen))
    assert 4 <= changes <= 10


@given(
    priorities=st.lists(st.integers(1, 50), min_size=1, max_size=5),
    devices=st.integers(1, 6),
    leaves_after=st.integers(1, 7),
)
def test_shares_follow_any_priorities_and_no_device_has_two(
    priorities: list[int], devices: int, leaves_after: int
) -> None:
    names = {f"p{place}": priority for place, priority in enumerate(priorities)}
    some = world(devices, turn_s=20.0, **names)
    some.leaves_after = leaves_after
    for _ in range(3000):
        some.step()
    used_s, total = some.used_s(), sum(some.used_s().values())
    due = parts(dict.fromkeys(names, devices), names, devices)
    assert some.busiest <= devices
    for name in names:
        assert abs(used_s[name] / total - due[name] / devices) < 0.05


@given(shards=st.lists(st.integers(1, 40), min_size=1, max_size=5), devices=st.integers(1, 4))
def test_every_pipeline_ends_and_what_one_cannot_use_goes_to_the_others(
    shards: list[int], devices: int
) -> None:
    names = {f"p{place}": 10 * (place + 1) for place in range(len(shards))}
    some = world(devices, turn_s=10.0, **names)
    some.left = {name: float(count) for name, count in zip(names, shards, strict=True)}
    for _ in range(sum(shards) * 3 + 60):
        some.step()
    assert all(left <= 0 for left in some.left.values())
    assert some.idle <= 2 * devices * (len(shards) + some.now_s / 10)


def test_who_comes_late_has_no_claim_on_the_time_before() -> None:
    two = world(1, turn_s=10.0, a=10, late=10)
    two.left["late"] = 0
    for _ in range(1000):
        two.step()
    two.left["late"] = 1e6
    for _ in range(200):
        two.step()
    assert 80 <= two.used_s()["late"] <= 120


def test_a_debt_is_bounded_so_that_who_waited_long_does_not_keep_all_others_waiting() -> None:
    account = Turn(10)
    for _ in range(1000):
        account.see(Standing(9, 0, 2), 10.0, due=1.0, contended=True, most_s=MEMORY * 60.0)
    assert account.owed_s == MEMORY * 60.0


def test_a_pipeline_that_would_miss_its_deadline_gets_more_than_its_priority() -> None:
    hurried = {"a": Turn(10), "b": Turn(10, deadline_s=1000.0)}
    two = World(Turns(hurried, 10.0), 2, {"a": 1e6, "b": 1500.0})
    while two.left["b"] > 0 and two.now_s < 2000:
        two.step()
    assert two.now_s <= 1010
    calm = World(Turns({"a": Turn(10), "b": Turn(10)}, 10.0), 2, {"a": 1e6, "b": 1500.0})
    while calm.left["b"] > 0:
        calm.step()
    assert calm.now_s > 1400
