"""Which image runs on which GPU: rules over facts, without any server. `rules` is where to begin.

the toolkit knows the GPU? ─▶ the driver? ─▶ is there code? ─▶ native, minor, forward? ─▶ NVIDIA_REQUIRE_…
"""

from embedmill.fleet.matching.fleets import match_fleet
from embedmill.fleet.matching.rules import match

__all__ = ["match", "match_fleet"]
