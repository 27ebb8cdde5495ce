"""WHAT computes: a file of a model package becomes something that turns arrays into vectors."""

from embedmill.runtimes.base import Place, Runtime, TensorSpec, Waiting, load_runtime

__all__ = ["Place", "Runtime", "TensorSpec", "Waiting", "load_runtime"]
