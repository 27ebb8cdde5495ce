"""WHERE worker loops run. `base` is the seam; one file per engine."""

from embedmill.engines.base import Engine
from embedmill.engines.kubernetes import KubernetesEngine
from embedmill.engines.local import LocalEngine
from embedmill.engines.ray import RayEngine
from embedmill.engines.ssh import SshEngine

__all__ = ["Engine", "KubernetesEngine", "LocalEngine", "RayEngine", "SshEngine"]
