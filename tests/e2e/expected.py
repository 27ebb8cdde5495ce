"""What a pipeline must publish, worked out from the catalog by plain Python: the other opinion.

Contents are compared as texts, sets hold what segments hold, and nothing here knows of fingerprints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.mill import POISON, Row

MAX_LENGTH = 64
Quarantine = tuple[str | None, int | None, str]


@dataclass(frozen=True)
class Model:
    """A package of the test, as far as its vectors' contents go."""

    name: str
    template: str

    def text(self, row: Row) -> str:
        return self.template.format(**{key: row[key] or "" for key in ("title", "category")})

    def is_empty(self, row: Row) -> bool:
        fields = [name for name in ("title", "category") if "{" + name + "}" in self.template]
        return all(not (row[name] or "").strip() for name in fields)


def is_poison(text: str) -> bool:
    """Tokens are bytes after a [CLS]; what is cut off does not harm."""
    return POISON.encode() in text.encode()[: MAX_LENGTH - 1]


@dataclass(frozen=True)
class Day:
    """What one run must find, do and publish."""

    items: dict[str, Row]
    texts: dict[str, str]
    empty: set[str]
    quarantine: Counter[Quarantine]
    computed: set[str]
    rejected: set[str]
    reused: int
    new: int
    changed: int
    unchanged: int
    deleted: int
    duplicates: int
    compacted: bool

    @property
    def embedded(self) -> int:
        return sum(text in self.computed for text in self.texts.values())


@dataclass
class Expected:
    """The published state: `before` has the text of each item, `segments` the texts that have vectors."""

    before: dict[str, str] = field(default_factory=dict)
    segments: list[set[str]] = field(default_factory=list)
    model: Model | None = None

    def next_day(self, catalog: Sequence[Row], model: Model, compact_above: float) -> Day:
        if model != self.model:
            self.segments, self.model = [], model
        ids = Counter(row["sku"] for row in catalog)
        good = {row["sku"]: row for row in catalog if row["sku"] is not None and ids[row["sku"]] == 1}
        empty = {sku for sku, row in good.items() if model.is_empty(row)}
        texts = {sku: model.text(row) for sku, row in good.items()}
        wanted = {text for sku, text in texts.items() if sku not in empty}
        rejected = {text for text in wanted if is_poison(text)}
        held = set().union(*self.segments)
        computed = wanted - rejected - held
        lost = {sku for sku, text in texts.items() if sku not in empty and text in rejected}
        embedded = {sku: text for sku, text in texts.items() if sku not in empty and sku not in lost}
        compacted = self._keep(computed, set(embedded.values()), compact_above)
        before, self.before = self.before, {sku: texts[sku] for sku in good if sku not in lost}
        return Day(
            items={sku: row for sku, row in good.items() if sku not in lost},
            texts=embedded,
            empty=empty,
            quarantine=_quarantine(catalog, ids, lost),
            computed=computed,
            rejected=rejected,
            reused=sum(text in held for text in embedded.values()),
            new=sum(sku not in before for sku in good),
            changed=sum(sku in before and before[sku] != texts[sku] for sku in good),
            unchanged=sum(sku in before and before[sku] == texts[sku] for sku in good),
            deleted=sum(sku not in ids for sku in before),
            duplicates=len(good) - len(empty) - len(wanted),
            compacted=compacted,
        )

    def _keep(self, computed: set[str], live: set[str], compact_above: float) -> bool:
        """Add the day's segment, then compact if dead rows and deltas are too many."""
        self.segments += [computed] if computed else []
        rows = sum(map(len, self.segments))
        compacted = rows > 0 and (rows - len(self.segments[0] & live)) / rows > compact_above
        if compacted:
            self.segments = [live] if live else []
        return compacted


def _quarantine(catalog: Sequence[Row], ids: Counter[Any], lost: set[str]) -> Counter[Quarantine]:
    found: Counter[Quarantine] = Counter((sku, None, "not-finite") for sku in lost)
    for number, row in enumerate(catalog):
        if row["sku"] is None:
            found[None, number, "null-id"] += 1
        elif ids[row["sku"]] > 1:
            found[row["sku"], number, "duplicate-id"] += 1
    return found
