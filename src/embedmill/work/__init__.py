"""The worker loop, and the leases by which loops share a run."""

from embedmill.work.worker import WorkDone, WorkerOptions, work

__all__ = ["WorkDone", "WorkerOptions", "work"]
