"""One module for each group of addresses; each has a `router`."""

from embedmill.serving.routes import health, items, metrics, oip, openai, pages, search, tf_serving

ROUTERS = (
    health.router,
    metrics.router,
    search.router,
    items.router,
    openai.router,
    oip.router,
    tf_serving.router,
    pages.router,
)
