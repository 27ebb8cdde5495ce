"""Lays out what other servers need to serve a release: Triton, TensorFlow Serving."""
