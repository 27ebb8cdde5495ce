"""From a catalog and the live release to the frozen work of one run."""

from embedmill.planning.alike import planned_alike
from embedmill.planning.calibrate import Calibrator
from embedmill.planning.plan import Planner

__all__ = ["Calibrator", "Planner", "planned_alike"]
