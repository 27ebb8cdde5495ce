"""The worker loop, and the leases by which loops share a run."""

from embedmill.work.ahead import Opened, Told, stand_by
from embedmill.work.worker import WorkDone, WorkerOptions, work

__all__ = ["Opened", "Told", "WorkDone", "WorkerOptions", "stand_by", "work"]
