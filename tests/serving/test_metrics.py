from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from tests.docs.pages import table
from tests.support.mill import Mill, items

from embedmill.release.reader import Release
from embedmill.serving.app import make_app
from embedmill.serving.depends import Server
from embedmill.serving.live import Live
from embedmill.serving.observing.logs import JsonLines, TextLines
from embedmill.serving.observing.metrics import Metrics
from embedmill.serving.served import Machine, Served

DASHBOARD = Path(__file__).parents[2] / "examples" / "grafana" / "embedmill-serving.json"


def served(release: Release, metrics: Metrics) -> Served:
    return Served.load(release, Machine(), release.content.pipeline.serving, metrics)


@pytest.fixture
def counted(published: Release) -> Iterator[TestClient]:
    metrics = Metrics()
    live = Live(served(published, metrics))
    with TestClient(make_app(Server(live, metrics=metrics))) as client:
        yield client
    live.close()


def samples(client: TestClient) -> dict[str, float]:
    """`name{label="value"}` → value."""
    found = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_a_limit_that_a_protocol_met_is_counted(counted: TestClient) -> None:
    answer = counted.post("/v1/models/test-query_text:predict", json={"instances": ["a"] * 257})
    assert answer.status_code == 400
    assert samples(counted)['embedmill_requests_refused_total{reason="inputs"}'] == 1


def test_requests_are_counted_by_route_and_status(counted: TestClient) -> None:
    for text in ("item 7", "item 7", "item 8"):
        assert counted.post("/search", json={"text": text}).status_code == 200
    counted.post("/search", json={})
    counted.get("/made/up/by/a/caller")
    found = samples(counted)
    assert found['embedmill_requests_total{method="POST",route="/search",status="200"}'] == 3
    assert found['embedmill_requests_total{method="POST",route="/search",status="400"}'] == 1
    assert found['embedmill_requests_total{method="other",route="other",status="404"}'] == 1
    assert found['embedmill_request_success_total{route="/search"}'] == 3
    assert found['embedmill_request_failure_total{route="/search"}'] == 1
    assert found['embedmill_rows_total{route="/search"}'] == 3
    assert found['embedmill_request_duration_seconds_count{route="/search"}'] == 4
    assert found["embedmill_requests_in_flight{}"] == 1  # that for the metrics


def test_stages_of_a_request_are_timed(counted: TestClient) -> None:
    for text in ("item 7", "item 7", "item 8"):
        counted.post("/search", json={"text": text})
    found = samples(counted)
    lane = '{encoder="query_text"}'
    for name in ("queue", "inference", "tokenization"):
        assert found[f"embedmill_request_{name}_duration_seconds_count{lane}"] == 2
    assert found["embedmill_search_duration_seconds_count{}"] == 3
    assert found[f"embedmill_batch_rows_sum{lane}"] == 2
    assert (found[f"embedmill_cache_hits_total{lane}"], found[f"embedmill_cache_misses_total{lane}"]) == (
        1,
        2,
    )
    assert found[f"embedmill_queue_size{lane}"] == 0


def test_the_release_is_named_and_swaps_are_counted(mill: Mill) -> None:
    mill.run(items(40))
    metrics = Metrics()
    first = mill.live()
    live = Live(served(first, metrics))
    with TestClient(make_app(Server(live, metrics=metrics))) as client:
        before = samples(client)
        mill.run(items(50))
        live.swap(served(mill.live(), metrics))
        after = samples(client)
    (info,) = [name for name in before if "release_info" in name]
    assert f'release="{first.name}"' in info
    assert info not in after
    assert (before["embedmill_swaps_total{}"], after["embedmill_swaps_total{}"]) == (0, 1)
    live.close()


def test_the_page_has_every_metric(counted: TestClient) -> None:
    counted.post("/search", json={"text": "item 7"})
    text = counted.get("/metrics").text
    there = {family.name for family in text_string_to_metric_families(text)}
    there = {name for name in there if not name.endswith("_created")}
    documented = {
        name.strip("` ").removesuffix("_total")
        for row in table("serving.md", "Metrics")
        for name in row[0].split(",")
    }
    assert documented == there | {"embedmill_requests_refused"}


def test_the_dashboard_asks_for_metrics_that_there_are(counted: TestClient) -> None:
    counted.post("/search", json={"text": "item 7"})
    counted.post("/search", json={"text": "x" * 40_000})
    there = {name.split("{")[0] for name in samples(counted)}
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = {
        word
        for panel in panels
        for target in panel["targets"]
        for word in target["expr"].replace("(", " ").replace("[", " ").replace("{", " ").split()
        if word.startswith("embedmill_")
    }
    assert asked
    assert asked <= there


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What a server writes as JSON."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("embedmill.requests")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield out
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_a_request_has_a_line_without_its_contents(
    counted: TestClient, published: Release, lines: io.StringIO
) -> None:
    counted.post("/search", json={"text": "secret wish"}, headers={"x-request-id": "abc-1"})
    counted.post("/search", json={"text": "x" * 40_000})
    counted.get("/readyz")
    first, second = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert {name: first[name] for name in ("id", "method", "route", "status", "rows", "release")} == {
        "id": "abc-1",
        "method": "POST",
        "route": "/search",
        "status": 200,
        "rows": 1,
        "release": published.name,
    }
    assert first["ms"] > 0
    assert (second["status"], second["reason"]) == (413, "characters")
    assert "secret" not in lines.getvalue()
    assert "xxxx" not in lines.getvalue()


def test_lines_of_text_have_the_fields_too() -> None:
    record = logging.LogRecord("embedmill", logging.INFO, "", 0, "request", None, None)
    record.fields = {"route": "/search", "status": 200}
    assert TextLines().format(record).endswith("Z info request route=/search status=200")


def test_exceptions_stay_in_one_line_of_json() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("embedmill", logging.ERROR, "", 0, "broken", None, info)
    line = JsonLines().format(record)
    assert "\n" not in line
    assert "ValueError: a\nb" in json.loads(line)["exception"]
