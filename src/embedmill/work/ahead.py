"""A loop that starts before its run is planned: it opens the model, starts what decodes images, and waits.

Nothing that it does before is seen in a store, so it may be ended at any moment.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from embedmill.errors import DecodersFailed, EmbedmillError
from embedmill.model import Encoder, ModelPackage
from embedmill.model.images import ImageDecoder, decoders_beside
from embedmill.model.lanes import lanes_on
from embedmill.types import Opening

if TYPE_CHECKING:
    from embedmill.model.begun import Begun
    from embedmill.model.loading import LoadedModel
    from embedmill.model.package import Stamp
    from embedmill.spec.documents import Plan
    from embedmill.work.worker import WorkerOptions

TICK_S = 0.5
"""How often it looks for the parent."""


@dataclass
class Opened:
    """A model that is open, until it is asked for; how it was opened, and the package, as it was then."""

    opening: Opening
    package: ModelPackage
    encoder: Encoder | None = field(repr=False)
    stamps: list[Stamp] = field(repr=False)

    def encoder_for(self, plan: Plan) -> Encoder | None:
        """The encoder, once, with the plan's batches; None, and nothing holds it, where another is needed.

        It is, byte for byte, the planned model, on as many threads as this loop was started with; its
        batches are no more than numbers that its profile has.
        """
        encoder, self.encoder = self.encoder, None
        planned = opening_of(plan, self.opening.model)
        if encoder is None:
            return None
        if (
            self.opening.thumbnails != planned.thumbnails
            or self.package.package_digest() != plan.package_digest
        ):
            encoder.close()
            return None
        return encoder.with_batches(tokens=planned.batch_tokens, images=planned.batch_images)

    def is_unchanged(self) -> bool:
        """Whether no file of the package was written since; else the encoder is let go of."""
        try:
            unchanged = self.package.stamps() == self.stamps
        except OSError:
            unchanged = False
        if not unchanged and self.encoder is not None:
            self.encoder.close()
            self.encoder = None
        return unchanged


class Told(NamedTuple):
    """The URL of the run; and the model, where it is open and did not change meanwhile."""

    run_url: str
    opened: Opened | None = None


def stand_by(begun: Begun | None, options: WorkerOptions) -> Told | None:
    """Have the model opened, then wait for a line on stdin; None once nobody will write one."""
    opened = _opened(begun, options) if begun is not None else None
    run_url = _wait_for_run(options.parent)
    if run_url is None:
        return None
    return Told(run_url, opened if opened is not None and opened.is_unchanged() else None)


def opening_of(plan: Plan, model: str) -> Opening:
    """How a plan wants the model in this folder opened."""
    work = plan.pipeline.work
    return Opening(model, plan.batch_tokens, work.batch_images, plan.pipeline.catalog.thumbnails)


def load_encoder(package: ModelPackage, opening: Opening, options: WorkerOptions) -> Encoder:
    """The `item` encoder on the device of a loop, with a decoding process for each lane."""
    lanes = lanes_on(package, options.device, options.lanes if options.heartbeat_thread else 1)
    return Encoder.load(
        package,
        "item",
        device=options.device,
        threads=options.threads,
        lanes=lanes,
        batch_tokens=opening.batch_tokens,
        batch_images=opening.batch_images,
        gpu_memory_mib=options.gpu_memory_mib,
        decoder=_decoder(opening, options, lanes),
    )


def _encoder_of(loaded: LoadedModel, opening: Opening, options: WorkerOptions) -> Encoder:
    return Encoder.of(
        loaded,
        batch_tokens=opening.batch_tokens,
        batch_images=opening.batch_images,
        decoder=_decoder(opening, options, loaded.sessions.lanes),
    )


def _decoder(opening: Opening, options: WorkerOptions, lanes: int) -> ImageDecoder:
    return ImageDecoder(
        children=decoders_beside(options.device, options.threads * lanes),
        limits=options.decoding,
        thumbnails=opening.thumbnails,
    )


def _opened(begun: Begun, options: WorkerOptions) -> Opened | None:
    """What is wrong with the model is the planner's to say, and that of a loop that works."""
    try:
        with begun.threads:
            encoder = _encoder_of(begun.loaded.result(), begun.opening, options)
            with contextlib.suppress(DecodersFailed):  # the first image tries again
                encoder.start_decoders(None if begun.opening.all_lanes else options.threads)
            begun.digested.result()
        if begun.package.stamps() == begun.stamps:  # so what is loaded is what was digested
            return Opened(begun.opening, begun.package, encoder, begun.stamps)
        encoder.close()
    except (EmbedmillError, OSError):
        pass
    return None


def _wait_for_run(parent: int | None) -> str | None:
    """The first line of stdin; None if it was closed, or the parent is gone, whoever still holds the pipe."""
    while parent is None or os.getppid() == parent:
        if select.select([sys.stdin], [], [], TICK_S)[0]:
            line = sys.stdin.readline()
            return line.strip() if line.endswith("\n") else None
    return None
