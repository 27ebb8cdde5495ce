"""One module for each group of addresses; each has a `router`."""

from embedmill.serving.routes import health, oip, openai, search, tf_serving

ROUTERS = (health.router, search.router, openai.router, oip.router, tf_serving.router)
