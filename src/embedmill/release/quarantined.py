"""What a table of quarantined items says in short: how many for which reason, and some of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from embedmill.errors import ReleaseCorrupt
from embedmill.spec.reports import QuarantinedItem

if TYPE_CHECKING:
    from pathlib import Path

    from embedmill.release.layout import Home
    from embedmill.spec.documents import Content, Plan

NAMED = 3
"""Items that a sentence names."""


class Quarantined(NamedTuple):
    """Items by reason, most frequent first, and some of them."""

    reasons: dict[str, int]
    items: tuple[QuarantinedItem, ...]

    def __str__(self) -> str:
        """Such as `15 image-invalid, 11 image-missing; such as S00012, S00077, S00013`."""
        counts = ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.items())
        seldom_first = sorted(self.items, key=lambda item: self.reasons[item.reason])
        names = [str(item.id or item.source or f"row {item.row}") for item in seldom_first[:NAMED]]
        return f"{counts}; such as {', '.join(names)}" if names else counts


def read_quarantined(file: Path, *, most: int, of_each: int | None = None) -> Quarantined:
    """Count the items of a file by reason, and take the first: so many, and no more `of_each` reason.

    Raises:
        ReleaseCorrupt: The file is gone, or no such table.
    """
    try:
        return _counted(file, most, of_each)
    except (OSError, pa.ArrowException) as error:
        raise ReleaseCorrupt(f"{file}: {error}") from None


def _counted(file: Path, most: int, of_each: int | None) -> Quarantined:
    reasons: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    items: list[QuarantinedItem] = []
    with pq.ParquetFile(file) as table:
        for batch in table.iter_batches(columns=list(QuarantinedItem.model_fields)):
            found = batch.column("reason").to_pylist()
            reasons.update(found)
            for row, reason in enumerate(found):
                if len(items) >= most:
                    break
                if of_each is None or taken[reason] < of_each:
                    taken[reason] += 1
                    items.append(QuarantinedItem(**batch.slice(row, 1).to_pylist()[0]))
    return Quarantined(dict(reasons.most_common()), tuple(items))


def quarantined_ids(file: Path) -> pa.Array:
    """string[N]: the ids of a file's items, as far as they are known.

    Raises:
        ReleaseCorrupt: The file is gone, or no such table.
    """
    try:
        ids = pq.read_table(file, columns=["id"]).column("id").combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise ReleaseCorrupt(f"{file}: {error}") from None
    return ids.drop_null()


def quarantined_of(home: Home, content: Content, *, most: int, of_each: int | None = None) -> Quarantined:
    """Those of a release or candidate.

    Raises:
        ReleaseCorrupt: The file is not what was written.
    """
    key = home.release_key(content.release, content.quarantine.path)
    return read_quarantined(home.verified(key, content.quarantine), most=most, of_each=of_each)


def quarantined_by(home: Home, plan: Plan, *, most: int, of_each: int | None = None) -> Quarantined:
    """Those that a plan leaves out already; workers may refuse others.

    Raises:
        ReleaseCorrupt: The file is not what was written.
    """
    file = home.verified(home.key(plan.quarantine.path), plan.quarantine)
    return read_quarantined(file, most=most, of_each=of_each)
