"""A shop whose items have pictures by URL: its rows, its server, and what became of them."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image
from tests.support.mill import Mill, quarantined
from tests.support.web import Behaviour, WebServer, picture

from embedmill.spec.reports import RunReport


def fetching(mill: Mill, web: WebServer, identity: dict[str, str] | None = None, **fetch: Any) -> None:
    settings = {"allow": [web.host], "timeout_s": 10.0, "attempts": 2, "connections_per_host": 16} | fetch
    catalog = {"source": "items.parquet", "id": "sku", "fetch": settings} | (identity or {})
    mill.settings = {"catalog": catalog, "work": {"shard_rows": 256}}


def png(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (24, 24), (number % 256, number // 256, 100)).save(out, "PNG")
    return out.getvalue()


def rows(web: WebServer, count: int) -> list[dict[str, Any]]:
    return [{"sku": f"s{n}", "image": web.url(f"/{n}"), "version": 1} for n in range(count)]


def serve(web: WebServer, count: int, **bad: Behaviour) -> None:
    web.paths |= {f"/{n}": picture(png(n)) for n in range(count)}
    web.paths |= {f"/{name.removeprefix('n')}": behaviour for name, behaviour in bad.items()}


def reasons(mill: Mill) -> dict[str, str]:
    return {row["id"]: row["reason"] for row in quarantined(mill.live())}


def check_accounts(result: RunReport) -> None:
    assert result.embedded + result.reused + result.empty + result.quarantined == result.total
