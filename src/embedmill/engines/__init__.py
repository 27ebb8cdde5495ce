"""WHERE worker loops run. `base` is the seam; one file per engine, imported where it is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.engines.base import Engine, Places, StandsBy
from embedmill.engines.local import LocalEngine, LocalPlaces
from embedmill.engines.mixed import MixedEngine
from embedmill.lazy import offered

if TYPE_CHECKING:
    from embedmill.engines.jenkins import JenkinsEngine
    from embedmill.engines.kubernetes import KubernetesEngine
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

# The engines of other machines: most commands have none of them.
__getattr__ = offered(
    __name__,
    {
        "JenkinsEngine": "jenkins",
        "KubernetesEngine": "kubernetes",
        "RayEngine": "ray",
        "SshEngine": "ssh",
    },
)
