"""A loop that starts before its run is planned: it opens the model, starts what decodes images, and waits.

Nothing that it does before is seen in a store, so it may be ended at any moment.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from embedmill.errors import DecodersFailed, EmbedmillError
from embedmill.model import Encoder, ModelPackage
from embedmill.model.images import ImageDecoder, decoders_beside
from embedmill.model.lanes import lanes_of
from embedmill.spec import OnnxSpec
from embedmill.types import Opening

if TYPE_CHECKING:
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


def stand_by(opening: Opening, options: WorkerOptions) -> Told | None:
    """Open the model, then wait for a line on stdin; None once nobody will write one."""
    opened = _open(opening, options)
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
    lanes = _lanes(package, options)
    return Encoder.load(
        package,
        "item",
        device=options.device,
        threads=options.threads,
        lanes=lanes,
        all_lanes=opening.all_lanes,
        batch_tokens=opening.batch_tokens,
        batch_images=opening.batch_images,
        gpu_memory_mib=options.gpu_memory_mib,
        decoder=ImageDecoder(
            children=decoders_beside(options.device, options.threads * lanes),
            limits=options.decoding,
            thumbnails=opening.thumbnails,
        ),
    )


def _lanes(package: ModelPackage, options: WorkerOptions) -> int:
    """As many as were asked for, where the model bears several threads."""
    shared = options.heartbeat_thread and options.device == "cpu"
    return min(options.lanes, lanes_of(package)) if shared else 1


def _open(opening: Opening, options: WorkerOptions) -> Opened | None:
    """What is wrong with the model is the planner's to say, and that of a loop that works."""
    try:
        before = ModelPackage.open(opening.model).stamps()
        package = ModelPackage.open(opening.model)
        if not _is_read_whole(package):
            return None
        with ThreadPoolExecutor(1, "digest") as beside:
            digested = beside.submit(package.package_digest)
            encoder = load_encoder(package, opening, options)
            with contextlib.suppress(DecodersFailed):  # the first image tries again
                encoder.start_decoders(None if opening.all_lanes else options.threads)
            digested.result()
        if package.stamps() == before:  # so what is loaded is what was digested
            return Opened(opening, package, encoder, before)
        encoder.close()
    except (EmbedmillError, OSError):
        pass
    return None


def _is_read_whole(package: ModelPackage) -> bool:
    """Whether a loaded model has nothing more to do with its files, whose owner may write to them any time.

    ONNX Runtime parses the ONNX file, and maps those with external tensors; other libraries may map theirs.
    """
    runtimes = package.spec.runtimes_for("item")
    return all(isinstance(each, OnnxSpec) and len(package.contents(each)) == 1 for each in runtimes)


def _wait_for_run(parent: int | None) -> str | None:
    """The first line of stdin; None if it was closed, or the parent is gone, whoever still holds the pipe."""
    while parent is None or os.getppid() == parent:
        if select.select([sys.stdin], [], [], TICK_S)[0]:
            line = sys.stdin.readline()
            return line.strip() if line.endswith("\n") else None
    return None
