"""Searches of requests: threads, filters, pictures."""
