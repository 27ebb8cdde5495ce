"""What a server counts, for Prometheus: names in the manner of text-embeddings-inference, with units.

Each server has a registry of its own, so that two in one process never share a counter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from embedmill.serving.depends import Server

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters and histograms of one server; observes lanes and searches."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests, by answer.", "route", "method", "status")
        self._success = self._counter("request_success", "Requests that were answered.", "route")
        self._failure = self._counter("request_failure", "Requests that were not: 4xx, 5xx.", "route")
        self._refused = self._counter("requests_refused", "Requests that met a limit, by limit.", "reason")
        self._rows = self._counter("rows", "Rows that requests brought to be embedded.", "route")
        self._batches = self._histogram("batch_rows", "Rows of a batch.", ROWS, "encoder")
        self._request = self._seconds("request", "From a request's headers to its answer.", "route")
        self._queue = self._seconds("request_queue", "From the queue into a batch.", "encoder")
        self._inference = self._seconds(
            "request_inference", "A batch in its encoder, with tokenization.", "encoder"
        )
        self._tokenization = self._seconds(
            "request_tokenization", "Tokenizing and reading values of a batch.", "encoder"
        )
        self._search = self._seconds("search", "A search or look-up in its thread.")
        self.in_flight = Gauge(
            "embedmill_requests_in_flight", "Requests that are in the server.", registry=self.registry
        )

    def watch(self, server: Server) -> None:
        """Report what a server has when somebody asks."""
        self.registry.register(_State(server))

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self.registry)

    def request_done(
        self, route: str, method: str, status: int, seconds: float, *, rows: int, reason: str
    ) -> None:
        """A request was answered, or its client left."""
        self._requests.labels(route, method, str(status)).inc()
        (self._success if status < 400 else self._failure).labels(route).inc()
        self._request.labels(route).observe(seconds)
        if rows:
            self._rows.labels(route).inc(rows)
        if reason:
            self._refused.labels(reason).inc()

    def batch_prepared(self, encoder: str, seconds: float) -> None:
        """See `LaneObserver`."""
        self._tokenization.labels(encoder).observe(seconds)

    def batch_done(self, encoder: str, rows: int, seconds: float, waited_s: Sequence[float]) -> None:
        """See `LaneObserver`."""
        self._batches.labels(encoder).observe(rows)
        self._inference.labels(encoder).observe(seconds)
        for waited in waited_s:
            self._queue.labels(encoder).observe(waited)

    def search_done(self, seconds: float) -> None:
        """See `SearchObserver`."""
        self._search.observe(seconds)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"embedmill_{name}", help_text, labels, registry=self.registry)

    def _seconds(self, name: str, help_text: str, *labels: str) -> Histogram:
        return self._histogram(f"{name}_duration_seconds", help_text, SECONDS, *labels)

    def _histogram(self, name: str, help_text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"embedmill_{name}", help_text, labels, buckets=buckets, registry=self.registry)


class _State(Collector):
    """What is read off a server when somebody asks, rather than counted."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client's `Collector`."""
        server = self._server
        with server.live.hold() as served:
            info = GaugeMetricFamily(
                "embedmill_release_info", "What is served.", labels=["release", "number", "pipeline", "model"]
            )
            number = served.release.number
            labels = [served.release.name, "" if number is None else str(number)]
            info.add_metric([*labels, served.pipeline, served.package_digest], 1)
            yield info
            queue = GaugeMetricFamily(
                "embedmill_queue_size", "Rows that wait or are computed.", labels=["encoder"]
            )
            hits = CounterMetricFamily("embedmill_cache_hits", "Texts that were known.", labels=["encoder"])
            misses = CounterMetricFamily("embedmill_cache_misses", "Texts that were not.", labels=["encoder"])
            size = GaugeMetricFamily("embedmill_cache_bytes", "Memory of the cache.", labels=["encoder"])
            for name, lane in served.lanes.items():
                queue.add_metric([name], lane.rows_inside)
                if lane.cache is not None:
                    counts = lane.cache.counts
                    hits.add_metric([name], counts.hits)
                    misses.add_metric([name], counts.misses)
                    size.add_metric([name], counts.size_bytes)
            yield from (queue, hits, misses, size)
            yield GaugeMetricFamily(
                "embedmill_searches_waiting", "Searches without a thread.", value=served.searching.waiting
            )
        yield CounterMetricFamily(
            "embedmill_swaps", "Releases that replaced another.", value=server.live.swaps
        )
        yield GaugeMetricFamily(
            "embedmill_releases_refused",
            "Releases that were live in the store and could not be served.",
            value=len(server.live.refused),
        )
        yield GaugeMetricFamily(
            "embedmill_ready", "Whether /readyz says so.", value=0 if server.complaint() else 1
        )
