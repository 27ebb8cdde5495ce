"""Places of several engines are one list, in turns; what one cannot tell does not hide the others."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass

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

    def look(self, most: int, held: Collection[str]) -> Look:
        if self.until is not None:
            assert self.until.wait(10)
        if self.failure is not None:
            raise self.failure
        free = tuple(Placement(each, host=Host("there", (), "")) for each in self.names if each not in held)
        return Look(free[:most], {"some": "busy"})


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


def test_it_is_asked_as_often_as_the_most_impatient_part_and_waits_if_one_does() -> None:
    patient, never = Named((), again_s=300.0, waits=False), LocalPlaces(1)
    assert MixedPlaces({"a": patient, "b": Named((), again_s=60.0), "c": never}).again_s == 60.0
    assert MixedPlaces({"c": never}).again_s is None
    assert (MixedPlaces({"a": patient, "c": never}).waits, MixedPlaces({"b": Named(())}).waits) == (
        False,
        True,
    )
