"""Clients of `embedmill serve`: `Client`, and `AsyncClient` (extra `http`).

Clients of OpenAI's API, of the Open Inference Protocol or of TensorFlow Serving do as well; these know what
the others do not: which release an answer is from, and when to ask again.
"""

from embedmill.client.asynchronous import AsyncClient
from embedmill.client.blocking import Client
from embedmill.client.values import Embedded, Found, Item, Source

__all__ = ["AsyncClient", "Client", "Embedded", "Found", "Item", "Source"]
