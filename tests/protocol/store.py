"""The store as its callers meet it: atomic creates and deletes, lost answers, requests that come late.

Contents of the store are hash-consed: equal ones are one object, so that comparing and hashing a state costs
an identity check, and what follows from them (the history, broken promises) is derived once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Literal, NamedTuple, TypeVar, cast

DerivedT = TypeVar("DerivedT")
Key = str
Value = Hashable


class Objects:
    """All objects in the store at one moment; equal ones are identical."""

    __slots__ = ("_derived", "_next", "_pool", "_values")

    def __init__(self, values: dict[Key, Value], pool: dict[frozenset[tuple[Key, Value]], Objects]) -> None:
        self._values, self._pool = values, pool
        self._next: dict[tuple[Key, Value | None], Objects] = {}
        self._derived: dict[object, object] = {}

    @staticmethod
    def of(values: dict[Key, Value]) -> Objects:
        """The contents that an exploration starts with; all later ones share its pool."""
        start = Objects(values, {})
        start._pool[frozenset(values.items())] = start
        return start

    def get(self, key: Key) -> Value | None:
        return self._values.get(key)

    def list(self, prefix: str) -> list[Key]:
        return sorted(key for key in self._values if key.startswith(prefix))

    def with_object(self, key: Key, value: Value | None) -> Objects:
        """These contents with one object set, or removed if the value is None."""
        change = (key, value)
        if change not in self._next:
            values = {other: there for other, there in self._values.items() if other != key}
            if value is not None:
                values[key] = value
            self._next[change] = self._pool.setdefault(frozenset(values.items()), Objects(values, self._pool))
        return self._next[change]

    def derive(self, function: Callable[[Objects], DerivedT]) -> DerivedT:
        """What follows from these contents alone, computed once."""
        if function not in self._derived:
            self._derived[function] = function(self)
        return cast("DerivedT", self._derived[function])


class Late(NamedTuple):
    """A request that nobody waits for any more: it arrives at any later time, or never."""

    key: Key
    value: Value | None
    """What to create; None: delete."""


class Created(NamedTuple):
    """How a create-if-absent ended, as its caller sees it.

    When the key is taken, the caller reads what is there. That read is part of this step: what matters of it
    never changes while it counts.
    """

    answer: Literal["won", "taken", "unknown"]
    there: Value | None
    store: Store
    how: str


class Store(NamedTuple):
    """Contents, and requests on their way."""

    objects: Objects
    late: frozenset[Late] = frozenset()
    room_for_late: int = 0
    """How many requests may be on their way at once: a bound of the exploration, not of the protocol."""
    late_deletes: bool = False
    """Whether deletes, too, may arrive late."""

    def get(self, key: Key) -> Value | None:
        return self.objects.get(key)

    def create(self, key: Key, value: Value) -> Iterator[Created]:
        """Every way in which a create-if-absent can end."""
        there = self.get(key)
        if there is not None:
            yield Created("taken", there, self, "finds it taken")
            return
        landed = self.put(key, value)
        yield Created("won", value, landed, "wins")
        yield Created("unknown", value, landed, "it lands, but the answer is lost")
        request = Late(key, value)
        if len(self.late) < self.room_for_late and request not in self.late:
            late = self._replace(late=self.late | {request})
            yield Created("unknown", None, late, "no answer: it is on its way")

    def put(self, key: Key, value: Value) -> Store:
        """Create or replace. Late creates of what is never deleted can only be refused: forget them."""
        late = self.late
        if late and is_permanent(key):
            late = frozenset(request for request in late if request.key != key)
        return self._replace(objects=self.objects.with_object(key, value), late=late)

    def delete(self, key: Key) -> Iterator[Store]:
        """Every way in which a delete can end; the caller goes on in any case."""
        yield self._replace(objects=self.objects.with_object(key, None))
        request = Late(key, None)
        if self.late_deletes and len(self.late) < self.room_for_late and request not in self.late:
            yield self._replace(late=self.late | {request})

    def arrivals(self) -> Iterator[tuple[str, Store]]:
        """A late request arrives now, and is obeyed or refused."""
        for request in sorted(self.late, key=str) if len(self.late) > 1 else self.late:
            rest = self._replace(late=self.late - {request})
            if request.value is None:
                objects = rest.objects.with_object(request.key, None)
                yield f"the late delete of {request.key} arrives", rest._replace(objects=objects)
            elif self.get(request.key) is None:
                yield f"the late create of {request.key} = {request.value} lands", rest.put(*request)
            else:
                yield f"the late create of {request.key} is refused", rest


def is_permanent(key: Key) -> bool:
    """Log entries and terminals are kept for ever."""
    return key.startswith("log/") or key.endswith("/terminal")
