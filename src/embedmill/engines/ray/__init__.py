"""Worker loops as actors of a Ray cluster.

engine ─▶ bridge ═ orders, answers ═▶ connecting ─▶ actors ─▶ Ray ─▶ actor, on a node ─▶ loop ─▶ `worker`
"""

from embedmill.engines.ray.bridge import Connection
from embedmill.engines.ray.engine import RayEngine
from embedmill.engines.ray.nodes import Family, Node, capacity, lacking

__all__ = ["Connection", "Family", "Node", "RayEngine", "capacity", "lacking"]
