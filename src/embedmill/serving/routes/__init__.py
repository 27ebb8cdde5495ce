"""One module for each group of addresses; each has a `router`."""

from embedmill.serving.routes import health, search

ROUTERS = (health.router, search.router)
