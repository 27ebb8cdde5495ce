"""What a pipeline must publish, worked out from the catalog by plain Python: the other opinion.

Contents are compared as texts, sets hold what segments hold, and nothing here knows of fingerprints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.mill import POISON, Row

from embedmill.pipeline import SALVAGED_RUNS

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


@dataclass(frozen=True)
class Left:
    """A run that was worked and never published: the texts that it has vectors of, the release it was on."""

    run: str
    model: Model
    texts: set[str]
    base: int


@dataclass
class Expected:
    """The published state: `before` has the text of each item, `segments` the texts that have vectors.

    `left` has runs that were not published, whose vectors later ones take over.
    """

    before: dict[str, str] = field(default_factory=dict)
    segments: list[set[str]] = field(default_factory=list)
    model: Model | None = None
    left: list[Left] = field(default_factory=list)
    live: int = 0

    def next_day(
        self, catalog: Sequence[Row], model: Model, compact_above: float, *, published: bool = True
    ) -> Day:
        segments = [*self.segments] if model == self.model else []
        ids = Counter(row["sku"] for row in catalog)
        good = {row["sku"]: row for row in catalog if row["sku"] is not None and ids[row["sku"]] == 1}
        empty = {sku for sku, row in good.items() if model.is_empty(row)}
        texts = {sku: model.text(row) for sku, row in good.items()}
        wanted = {text for sku, text in texts.items() if sku not in empty}
        rejected = {text for text in wanted if is_poison(text)}
        read = {model.text(row) for row in catalog if row["sku"] is not None and not model.is_empty(row)}
        segments += self._salvaged(read - set().union(*segments), model)
        held = set().union(*segments)
        computed = wanted - rejected - held
        lost = {sku for sku, text in texts.items() if sku not in empty and text in rejected}
        embedded = {sku: text for sku, text in texts.items() if sku not in empty and sku not in lost}
        segments += [computed] if computed else []
        segments, compacted = _compacted(segments, set(embedded.values()), compact_above)
        before = self.before
        if published:
            self.before = {sku: texts[sku] for sku in good if sku not in lost}
            self.segments, self.model, self.live = segments, model, self.live + 1
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

    def _salvaged(self, wanted: set[str], model: Model) -> list[set[str]]:
        """What newer and older runs have of the texts that have no vector: all of a run, or nothing."""
        found = []
        recent = [left for left in self.left if left.base >= self.live - 1]
        for left in sorted(recent, key=lambda left: left.run, reverse=True)[:SALVAGED_RUNS]:
            if left.model == model and left.texts & wanted:
                found.append(left.texts)
                wanted = wanted - left.texts
        return found


def _compacted(segments: list[set[str]], live: set[str], compact_above: float) -> tuple[list[set[str]], bool]:
    """One segment where too many rows are dead or deltas; of a text in several the last row is live."""
    rows = sum(map(len, segments))
    base_live = segments[0] & live - set().union(*segments[1:]) if segments else set()
    if rows == 0 or (rows - len(base_live)) / rows <= compact_above:
        return segments, False
    return [live] if live else [], True


def _quarantine(catalog: Sequence[Row], ids: Counter[Any], lost: set[str]) -> Counter[Quarantine]:
    found: Counter[Quarantine] = Counter((sku, None, "not-finite") for sku in lost)
    for number, row in enumerate(catalog):
        if row["sku"] is None:
            found[None, number, "null-id"] += 1
        elif ids[row["sku"]] > 1:
            found[row["sku"], number, "duplicate-id"] += 1
    return found
