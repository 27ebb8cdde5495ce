"""WHAT computes: a file of a model package becomes something that turns arrays into vectors."""

from embedmill.runtimes.base import TEXT_ONLY, Frugal, Place, Runtime, TensorSpec, Waiting, load_runtime

__all__ = ["TEXT_ONLY", "Frugal", "Place", "Runtime", "TensorSpec", "Waiting", "load_runtime"]
