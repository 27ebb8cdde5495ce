"""One module for each group of addresses; each has a `router`."""

from embedmill.serving.routes import health, items, pages, search

ROUTERS = (health.router, search.router, items.router, pages.router)
