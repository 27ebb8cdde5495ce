"""WHERE worker loops run. `base` is the seam; one file per engine."""

from embedmill.engines.base import Engine, Places, StandsBy
from embedmill.engines.jenkins import JenkinsEngine
from embedmill.engines.kubernetes import KubernetesEngine
from embedmill.engines.local import LocalEngine, LocalPlaces
from embedmill.engines.mixed import MixedEngine
from embedmill.engines.ray import RayEngine
from embedmill.engines.ssh import SshEngine

__all__ = [
    "Engine",
    "JenkinsEngine",
    "KubernetesEngine",
    "LocalEngine",
    "LocalPlaces",
    "MixedEngine",
    "Places",
    "RayEngine",
    "SshEngine",
    "StandsBy",
]
