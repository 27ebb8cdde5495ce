"""The cases of cases.yaml as facts and images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from embedmill.spec.host import GpuFacts, HostFacts
from embedmill.spec.images import ImageSpec

FILE = Path(__file__).with_suffix(".yaml")
GIB = 1 << 30
WRITTEN: dict[str, Any] = yaml.safe_load(FILE.read_text())


@dataclass(frozen=True)
class Case:
    driver: str | None
    gpu: str
    image: str
    rule: str
    said: str
    source: str
    warned: str = ""
    cuda: tuple[int, int] | None = None

    def __str__(self) -> str:
        return f"{self.gpu}-{self.driver}-{self.image}"


def cases() -> list[Case]:
    return [Case(**{**each, "driver": each["driver"] and str(each["driver"])}) for each in WRITTEN["cases"]]


def image(name: str, **changed: Any) -> ImageSpec:
    return ImageSpec(**{"image": digest(name), **WRITTEN["images"][name], **changed})


def digest(name: str) -> str:
    return "sha256:" + name.encode().hex().ljust(64, "0")[:64]


def gpu(name: str, **changed: Any) -> GpuFacts:
    told: Mapping[str, Any] = WRITTEN["gpus"][name]
    values = {"index": 0, "uuid": f"GPU-{name}", "memory_bytes": 16 * GIB, "used_bytes": 0, **told, **changed}
    return GpuFacts(**values)


def host(driver: str | None, *gpus: GpuFacts, cuda: tuple[int, int] | None = None) -> HostFacts:
    return HostFacts(
        hostname="gpu-01",
        taken="2026-01-31T23:59:59Z",
        window_s=120,
        source="nvml",
        driver=driver,
        cuda=cuda,
        gpus=gpus,
    )
