"""BLAKE2b digests of many short messages: here, or in processes that share the machine's cores."""

from embedmill.hashing.messages import Messages, digests_of, fixed_width, messages_of
from embedmill.hashing.pool import Hasher, Pending

__all__ = ["Hasher", "Messages", "Pending", "digests_of", "fixed_width", "messages_of"]
