"""A loop that starts before its run is planned: it opens the model, then waits to be told what to work on.

Nothing that it does before is seen in a store, so it may be ended at any moment.
"""

from __future__ import annotations

import os
import select
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from embedmill.errors import EmbedmillError
from embedmill.model import Encoder, ModelPackage
from embedmill.model.images import ImageDecoder, decoders_beside
from embedmill.types import Opening

if TYPE_CHECKING:
    from embedmill.spec.documents import Plan
    from embedmill.work.worker import WorkerOptions

TICK_S = 0.5
"""How often it looks for the parent."""


@dataclass(frozen=True)
class Opened:
    """A model that is open, and the settings that it was opened with."""

    opening: Opening
    package: ModelPackage
    encoder: Encoder

    def serves(self, plan: Plan) -> bool:
        """Whether it is, byte for byte, the planned model, with the planned settings."""
        planned = opening_of(plan, self.opening.model)
        return self.opening == planned and self.package.package_digest() == plan.package_digest


class Told(NamedTuple):
    """The URL of the run; and the model, where it is open and did not change meanwhile."""

    run_url: str
    opened: Opened | None = None


def stand_by(opening: Opening, options: WorkerOptions) -> Told | None:
    """Open the model, then wait for a line on stdin; None once nobody will write one."""
    opened = _open(opening, options)
    run_url = _wait_for_run(options.parent)
    return None if run_url is None else Told(run_url, opened)


def opening_of(plan: Plan, model: str) -> Opening:
    """How a plan wants the model in this folder opened."""
    work = plan.pipeline.work
    return Opening(model, work.batch_tokens, work.batch_images, plan.pipeline.catalog.thumbnails)


def load_encoder(package: ModelPackage, opening: Opening, options: WorkerOptions) -> Encoder:
    """The `item` encoder on the device of a loop."""
    return Encoder.load(
        package,
        "item",
        device=options.device,
        threads=options.threads,
        batch_tokens=opening.batch_tokens,
        batch_images=opening.batch_images,
        gpu_memory_mib=options.gpu_memory_mib,
        decoder=ImageDecoder(
            children=decoders_beside(options.device, options.threads),
            limits=options.decoding,
            thumbnails=opening.thumbnails,
        ),
    )


def _open(opening: Opening, options: WorkerOptions) -> Opened | None:
    """What is wrong with the model is the planner's to say, and that of a loop that works."""
    try:
        package = ModelPackage.open(opening.model)
        before = _stamps(package)
        encoder = load_encoder(package, opening, options)
        package.package_digest()
        if _stamps(package) == before:  # so what is loaded is what was digested
            return Opened(opening, package, encoder)
        encoder.close()
    except (EmbedmillError, OSError):
        pass
    return None


def _stamps(package: ModelPackage) -> list[tuple[str, int, int, int]]:
    found = [(name, (package.root / name).stat()) for name in package.files()]
    return [(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def _wait_for_run(parent: int | None) -> str | None:
    """The first line of stdin; None if it was closed, or the parent is gone, whoever still holds the pipe."""
    while parent is None or os.getppid() == parent:
        if select.select([sys.stdin], [], [], TICK_S)[0]:
            line = sys.stdin.readline()
            return line.strip() if line.endswith("\n") else None
    return None
