"""One module for each group of addresses; each has a `router`."""

from embedmill.serving.routes import health, metrics, search

ROUTERS = (health.router, metrics.router, search.router)
