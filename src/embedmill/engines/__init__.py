"""WHERE worker loops run. `base` is the seam; one file per engine, imported where it is named."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from embedmill.engines.base import Engine, Places, StandsBy
from embedmill.engines.local import LocalEngine, LocalPlaces
from embedmill.engines.mixed import MixedEngine

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

_HOMES = {
    "JenkinsEngine": "embedmill.engines.jenkins",
    "KubernetesEngine": "embedmill.engines.kubernetes",
    "RayEngine": "embedmill.engines.ray",
    "SshEngine": "embedmill.engines.ssh",
}


def __getattr__(name: str) -> Any:
    """Import the engines of other machines at first use: most commands have none of them."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
