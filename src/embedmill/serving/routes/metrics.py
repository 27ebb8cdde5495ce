"""`/metrics`: what the server counts, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST

from embedmill.serving.depends import TheServer

router = APIRouter(tags=["release"])


@router.get("/metrics", response_class=Response)
async def metrics(server: TheServer) -> Response:
    """Counters, histograms and gauges in Prometheus' text format."""
    return Response(server.metrics.text(), media_type=CONTENT_TYPE_LATEST)
