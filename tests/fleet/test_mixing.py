"""Places of several engines are one list, in turns; what one cannot tell does not hide the others."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, field

import pytest

from embedmill.engines import LocalPlaces
from embedmill.errors import EngineUnavailable
from embedmill.fleet.mixing import MixedPlaces
from embedmill.types import Host, Look, Placement


@dataclass
class Named:
    """Places of these names, but for those that run; or a failure; told once `until` is set."""

    names: tuple[str, ...]
    failure: Exception | None = None
    again_s: float | None = 300.0
    waits: bool = True
    until: threading.Event | None = None
    asked: int = 0

    def look(self, most: int, held: Collection[str]) -> Look:
        self.asked += 1
        if self.until is not None:
            assert self.until.wait(120)
        if self.failure is not None:
            raise self.failure
        free = tuple(Placement(each, host=Host("there", (), "")) for each in self.names if each not in held)
        return Look(free[:most], {"some": "busy"})


@dataclass
class Clock:
    """Shows what the test says."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Fleet:
    """A patient part beside an impatient one, at a time that a test says."""

    ssh: Named = field(default_factory=lambda: Named(("gpu-0",), again_s=300.0))
    ray: Named = field(default_factory=lambda: Named((), again_s=10.0))
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.places = MixedPlaces({"ssh": self.ssh, "ray": self.ray}, quick_s=0.05, clock=self.clock)

    def look(self, now_s: float, *held: str) -> Look:
        self.clock.now_s = now_s
        return self.places.look(9, held)


def names(look: Look) -> list[str]:
    return [f"{place.engine}:{place.worker}" for place in look.free]


def test_parts_take_turns_and_places_say_whose_they_are() -> None:
    places = MixedPlaces({"local": LocalPlaces(3), "ray": Named(("cpu-0", "cpu-1"))})
    assert names(places.look(4, ())) == ["local:local-0", "ray:cpu-0", "local:local-1", "ray:cpu-1"]
    assert all(place.host is not None for place in places.look(4, ()).free)
    assert places.look(4, ()).passed_over == {"some": "busy"}


def test_loops_that_run_are_no_places() -> None:
    places = MixedPlaces({"local": LocalPlaces(2), "ray": Named(("cpu-0", "cpu-1"))})
    assert names(places.look(9, ["local-0", "cpu-1"])) == ["ray:cpu-0", "local:local-1"]


def test_a_part_that_cannot_be_asked_is_passed_over_with_its_words() -> None:
    places = MixedPlaces({"ray": Named((), EngineUnavailable("no head")), "local": LocalPlaces(1)})
    found = places.look(9, ())
    assert (names(found), found.passed_over) == (["local:local-0"], {"engine ray": "no head"})


def test_where_no_part_can_be_asked_the_run_ends_with_the_first_ones_words() -> None:
    places = MixedPlaces({"ray": Named((), EngineUnavailable("no head"))})
    with pytest.raises(EngineUnavailable, match="no head"):
        places.look(9, ())


def test_of_two_places_with_one_name_the_first_is_taken_and_the_other_told() -> None:
    places = MixedPlaces({"ray": Named(("cpu-0",)), "kubernetes": Named(("cpu-0",))})
    found = places.look(9, ())
    assert names(found) == ["ray:cpu-0"]
    assert found.passed_over["kubernetes: cpu-0"] == "is the name of a loop of ray"


def test_a_slow_part_holds_up_nobody_and_is_heard_by_the_next_look() -> None:
    answer = threading.Event()
    slow = Named(("gpu-0",), until=answer)
    places = MixedPlaces({"ssh": slow, "local": LocalPlaces(1)}, quick_s=0.05)
    first = places.look(9, ())
    assert (names(first), first.passed_over) == (["local:local-0"], {"engine ssh": "is being asked"})
    assert places.again_s == 0.05
    answer.set()
    assert names(places.look(9, ["local-0"])) == ["ssh:gpu-0"]
    assert places.again_s == 300.0


def test_where_nothing_else_is_free_a_slow_part_is_waited_for() -> None:
    answer = threading.Event()
    threading.Timer(0.2, answer.set).start()
    places = MixedPlaces({"ssh": Named(("gpu-0",), until=answer), "ray": Named(())}, quick_s=0.05)
    assert names(places.look(9, ())) == ["ssh:gpu-0"]


def test_each_part_is_asked_as_often_as_it_wants_to_be() -> None:
    fleet = Fleet()
    for now_s in range(0, 300, 10):
        fleet.look(now_s, *(["gpu-0"] if now_s else []))
    assert (fleet.ssh.asked, fleet.ray.asked) == (1, 30)
    assert names(fleet.look(300, "cpu-0")) == ["ssh:gpu-0"]
    assert (fleet.ssh.asked, fleet.ray.asked) == (2, 31)


def test_what_a_part_passed_over_is_told_until_it_is_asked_anew() -> None:
    fleet = Fleet(ssh=Named(("gpu-0",), EngineUnavailable("no key")))
    assert fleet.look(0).passed_over == {"engine ssh": "no key", "some": "busy"}
    assert fleet.look(10, "cpu-0").passed_over == {"engine ssh": "no key", "some": "busy"}
    fleet.ssh.failure = None
    assert fleet.look(300, "cpu-0").passed_over == {"some": "busy"}


def test_while_a_part_is_asked_anew_its_last_words_stay() -> None:
    fleet = Fleet(ray=Named(("cpu-0", "cpu-1"), again_s=10.0))
    fleet.look(0)
    fleet.ssh.until = threading.Event()
    assert fleet.look(300, "gpu-0").passed_over == {"some": "busy"}
    fleet.ssh.until.set()


def test_where_all_that_ran_has_ended_all_are_asked_at_once_and_then_each_in_its_time() -> None:
    fleet = Fleet()
    fleet.look(0)
    assert names(fleet.look(10)) == ["ssh:gpu-0"], "what was given may be over"
    fleet.ssh.names = ()
    fleet.look(11, "gpu-0")
    assert fleet.ssh.asked == 2
    fleet.look(12)
    assert fleet.ssh.asked == 3
    for now_s in range(20, 310, 10):
        fleet.look(now_s)
    assert fleet.ssh.asked == 3, "a run that waits probes the fleet no more often"
    fleet.look(312)
    assert fleet.ssh.asked == 4
    fleet.look(322, "cpu-0")
    fleet.look(332)
    assert fleet.ssh.asked == 5, "loops of another part have ended"


def test_a_look_says_who_was_asked_anew() -> None:
    fleet = Fleet()
    assert fleet.look(0).answered == frozenset({"ssh", "ray"})
    assert fleet.look(10, "gpu-0").answered == frozenset({"ray"})


def test_it_is_asked_as_often_as_the_most_impatient_part_and_waits_if_one_does() -> None:
    patient, never = Named((), again_s=300.0, waits=False), LocalPlaces(1)
    assert MixedPlaces({"a": patient, "b": Named((), again_s=60.0), "c": never}).again_s == 60.0
    assert MixedPlaces({"c": never}).again_s is None
    assert (MixedPlaces({"a": patient, "c": never}).waits, MixedPlaces({"b": Named(())}).waits) == (
        False,
        True,
    )
