"""What a day does to the demo's catalog: a pure function of the items, a seed and a share."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from emoji_items import Item

FAVOURITES = "Favourites"
RENAMED, MOVED, DELETED, ADDED = 0.5, 0.2, 0.15, 0.15
"""How a day's changes are divided."""


@dataclass(frozen=True, slots=True)
class Day:
    """The catalog after a day, the items outside it, and what was done: (before, after) where both exist."""

    catalog: tuple[Item, ...]
    held_back: tuple[Item, ...]
    renamed: tuple[tuple[Item, Item], ...]
    moved: tuple[tuple[Item, Item], ...]
    deleted: tuple[Item, ...]
    added: tuple[Item, ...]

    @property
    def changes(self) -> int:
        """Items that were touched."""
        return len(self.renamed) + len(self.moved) + len(self.deleted) + len(self.added)


def change(catalog: Sequence[Item], held_back: Sequence[Item], *, seed: int, share: float) -> Day:
    """Change about `share` of the items; equal arguments give an equal day, whatever the order of the items.

    Some items get the name that the other source knows them by, some move to another category (which no
    vector depends on), some go, and some that were held back come. Items that go can come back another day.
    """
    total = round(len(catalog) * share)
    chance = random.Random(seed)
    order = _shuffled(catalog, chance)
    renamed = [item for item in order if item.other_name][: round(total * RENAMED)]
    order = _without(order, renamed)
    moved = [item for item in order if item.category != FAVOURITES][: round(total * MOVED)]
    deleted = _without(order, moved)[: round(total * DELETED)]
    added = _shuffled(held_back, chance)[: round(total * ADDED)]
    after = {item.id: item for item in _without(catalog, deleted)} | {item.id: item for item in added}
    after |= {item.id: _renamed(item) for item in renamed} | {item.id: _moved(item) for item in moved}
    return Day(
        catalog=_by_id(after.values()),
        held_back=_by_id([*_without(held_back, added), *deleted]),
        renamed=tuple((item, after[item.id]) for item in _by_id(renamed)),
        moved=tuple((item, after[item.id]) for item in _by_id(moved)),
        deleted=_by_id(deleted),
        added=_by_id(added),
    )


def _renamed(item: Item) -> Item:
    return replace(item, name=item.other_name or item.name, other_name=item.name)


def _moved(item: Item) -> Item:
    return replace(item, category=FAVOURITES)


def _by_id(items: Iterable[Item]) -> tuple[Item, ...]:
    return tuple(sorted(items, key=lambda item: item.id))


def _shuffled(items: Sequence[Item], chance: random.Random) -> list[Item]:
    shuffled = list(_by_id(items))
    chance.shuffle(shuffled)
    return shuffled


def _without(items: Sequence[Item], taken: Sequence[Item]) -> list[Item]:
    ids = {item.id for item in taken}
    return [item for item in items if item.id not in ids]
