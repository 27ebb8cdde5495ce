"""Releases: how they lie in the store, how they are made, published, opened and searched."""
