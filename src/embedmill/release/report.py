"""The report of a candidate, and of a run's work: one self-contained HTML page, no scripts."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from embedmill.release.timeline import HEAD, NUMBERS, share_row, timeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from embedmill.release.quarantined import Quarantined
    from embedmill.spec.documents import Content, Gates, Segment, Verdict
    from embedmill.spec.platform import RunWorkReport

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; overflow-wrap: anywhere } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
.wide { overflow-x: auto } .wide + .wide { margin-top: 1rem } .wide svg { min-width: 40rem }
td, th { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ddd }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
code { font-size: .85em; word-break: break-all }
.pass { color: #0a6b2d } .fail { color: #b00020; font-weight: 600 }
.accepted { color: #8a5a00; font-weight: 600 }
"""


def render_report(
    content: Content,
    gates: Gates,
    work: RunWorkReport | None = None,
    lacking: Quarantined | None = None,
) -> bytes:
    """The page as UTF-8; `work`: what the loops of the run did, `lacking`: what is quarantined, if known."""
    base = (
        f"{content.base.release} (number {content.base.number})" if content.base else "none: a first release"
    )
    facts = [
        ("Pipeline", content.pipeline.name),
        ("Created", content.created),
        ("On top of", base),
        ("Model", content.pipeline.model),
        ("Model package", content.package_digest),
        ("Encoder", content.encoder_digest),
        ("Numerics", content.numerics.why or f"epoch {content.numerics.epoch}"),
        ("Content digest", content.content_digest),
    ]
    counts = [(name, f"{value:,}") for name, value in _counts(content)]
    segments = [
        (segment.name, f"{segment.rows:,}", f"{segment.live:,}", _index(segment))
        for segment in content.segments
    ]
    body = [
        f"<h1>Release {escape(content.release)}</h1>",
        table(("", ""), [(name, f"<code>{escape(value)}</code>") for name, value in facts]),
        "<h2>Items</h2>",
        table(("", "count"), counts, numbers=1),
        "<h2>Gates</h2>",
        table(("gate", "verdict", "found"), [_gate(verdict) for verdict in gates.verdicts]),
        *(_quarantine(lacking) if lacking is not None and lacking.reasons else ()),
        "<h2>Segments</h2>",
        table(("segment", "rows", "live", "search"), segments),
        *(_work(work) if work is not None and work.shards else ()),
    ]
    return page(f"Embedmill: {content.pipeline.name} {content.release}", body)


def render_work(work: RunWorkReport, model: str) -> bytes:
    """A page on a run's work alone, as UTF-8; `model`: as the pipeline names it."""
    done = f"{len(work.shards):,} of {work.shards_planned:,}"
    facts = [
        ("Pipeline", escape(work.pipeline)),
        ("Model", f"<code>{escape(model)}</code>"),
        ("Began", work.began or "no shard is committed yet"),
        ("Took", f"{work.seconds:,.1f} s, from the first shard's begin to the last one's end"),
        ("Shards", done),
        ("Rows", f"{work.rows:,}"),
        ("Vectors", f"{work.vectors:,}"),
    ]
    body = [f"<h1>Run {escape(work.run)}</h1>", table(("", ""), facts), *_work(work)]
    return page(f"Embedmill: {work.pipeline} {work.run}", body)


def _quarantine(lacking: Quarantined) -> list[str]:
    counts = [(escape(reason), f"{count:,}") for reason, count in lacking.reasons.items()]
    rows = [
        (
            escape(str(item.reason)),
            escape(item.id or ""),
            escape(item.source or "" if item.row is None else str(item.row)),
            escape(item.detail),
        )
        for item in lacking.items
    ]
    return [
        "<h2>Quarantine</h2>",
        table(("reason", "items"), counts, numbers=1),
        "<p>Some of them:</p>",
        table(("reason", "id", "row", "detail"), sorted(rows)),
    ]


def _work(work: RunWorkReport) -> list[str]:
    rows = [[escape(cell) for cell in share_row(share)] for share in work.workers]
    return ["<h2>Work</h2>", table(HEAD, rows, numbers=NUMBERS), f"<div class='wide'>{timeline(work)}</div>"]


def page(title: str, body: Iterable[str]) -> bytes:
    """A whole page of parts that are HTML already."""
    head = (
        "<meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
    )
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(body)}</body></html>\n".encode()


def _index(segment: Segment) -> str:
    measured = "" if segment.recall is None else f", recall@10 {segment.recall:.3f}"
    return f"HNSW{measured}" if segment.index else "exact"


def _counts(content: Content) -> list[tuple[str, int]]:
    counts = content.counts
    return [
        ("read", counts.total),
        ("new", counts.new),
        ("changed", counts.changed),
        ("unchanged", counts.unchanged),
        ("deleted", counts.deleted),
        ("duplicates", counts.duplicates),
        ("embedded in this run", content.embedded),
        ("reused from the base", content.reused),
        ("kept, since the image could not be fetched", content.kept),
        ("empty input", content.empty),
        ("quarantined", content.quarantined),
        ("vectors computed", content.computed),
    ]


def _gate(verdict: Verdict) -> tuple[str, str, str]:
    word = "pass" if verdict.passed else "accepted" if verdict.accepted else "fail"
    return escape(verdict.gate), f"<span class='{word}'>{word}</span>", escape(verdict.message)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 99) -> str:
    """A table, in a box to scroll in; cells are HTML already, columns from `numbers` on are aligned right."""
    sides = ["n" if i >= numbers else "" for i in range(len(head))]
    top = "".join(f"<th class='{side}'>{escape(name)}</th>" for side, name in zip(sides, head, strict=True))
    lines = (
        "".join(
            f"<td class='n'>{cell}</td>" if i >= numbers else f"<td>{cell}</td>" for i, cell in enumerate(row)
        )
        for row in rows
    )
    rows_html = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<div class='wide'><table><tr>{top}</tr>{rows_html}</table></div>"
