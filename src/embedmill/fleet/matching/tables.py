"""The tables of versions, as `tables.yaml` beside this file has them: read once, checked, frozen."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Annotated

import yaml
from pydantic import BeforeValidator, Field

from embedmill.fleet.matching.versions import Version, pair, parsed
from embedmill.spec.section import Section

Release = Annotated[Version, BeforeValidator(parsed)]
Pair = Annotated[tuple[int, int], BeforeValidator(pair)]
_VENDOR = re.compile(r"^(?:NVIDIA\s+)?(?:Tesla\s+)?(?P<model>[A-Z]+\d+[A-Z]*)(?=[\s-]|$)")


class Toolkits(Section):
    """The driver that each CUDA toolkit ships with."""

    source: str
    drivers: dict[Pair, Release]


class MinorFloors(Section):
    """The oldest driver that runs every toolkit of a major version."""

    source: str
    drivers: dict[int, Release]


class Capabilities(Section):
    """`lowest` by major version; `highest` by the toolkit since which it is known."""

    source: str
    lowest: dict[int, Pair]
    highest: dict[Pair, Pair]


class Architecture(Section):
    """Compute capabilities `first` to `last`; None: every branch of drivers supports it."""

    name: str
    first: Pair = Field(alias="from")
    last: Pair = Field(alias="to")
    last_driver: int | None = None


class Architectures(Section):
    """The names of compute capabilities."""

    source: str
    names: tuple[Architecture, ...]


class DataCentre(Section):
    """GPUs for which cuda-compat is made; model → compute capability."""

    source: str
    brands: tuple[str, ...]
    names: dict[str, Pair]


class FrameworkRelease(Section):
    """Releases `first` to `last`: the toolkits that they are built with; `12` is any of CUDA 12."""

    first: Pair = Field(alias="from")
    last: Pair = Field(alias="to")
    cuda: tuple[str, ...]
    cudnn: str | None = None


class Framework(Section):
    """What a kind of runtime is built with."""

    source: str
    releases: tuple[FrameworkRelease, ...]


class Tables(Section):
    """All of them, with the questions that the rules ask."""

    toolkits: Toolkits
    minor: MinorFloors
    capabilities: Capabilities
    architectures: Architectures
    data_centre: DataCentre
    frameworks: dict[str, Framework]

    def cuda_of(self, driver: Version) -> tuple[int, int] | None:
        """The newest toolkit that a driver runs without any compatibility; None for a very old driver."""
        return max((cuda for cuda, floor in self.toolkits.drivers.items() if floor <= driver), default=None)

    def highest_capability(self, cuda: tuple[int, int]) -> tuple[int, int] | None:
        """The newest compute capability that a toolkit knows."""
        known = [since for since in self.capabilities.highest if since <= cuda]
        return self.capabilities.highest[max(known)] if known else None

    def architecture(self, capability: tuple[int, int]) -> Architecture | None:
        """What a compute capability belongs to."""
        return next(
            (each for each in self.architectures.names if each.first <= capability <= each.last), None
        )

    def data_centre_model(self, name: str) -> str | None:
        """`A100` of `NVIDIA A100-SXM4-80GB`; None for what is in no table."""
        found = _VENDOR.match(name)
        return found["model"] if found and found["model"] in self.data_centre.names else None

    def framework(self, kind: str, version: Version) -> FrameworkRelease | None:
        """What a release of a kind of runtime is built with."""
        releases = self.frameworks[kind].releases if kind in self.frameworks else ()
        return next((each for each in releases if each.first <= (*version, 0)[:2] <= each.last), None)


@cache
def tables() -> Tables:
    """The tables that are shipped."""
    text = files("embedmill.fleet.matching").joinpath("tables.yaml").read_text("utf-8")
    return Tables.model_validate(yaml.safe_load(text))
