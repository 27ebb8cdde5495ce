"""A release's goldens on one device: are they the published vectors, how fast, in how much memory?"""

from __future__ import annotations

import base64
import resource
import time
from typing import TYPE_CHECKING

from embedmill.model import Encoder, ModelPackage
from embedmill.model.goldens import LOWEST_COSINE, cosines
from embedmill.model.images import ImageDecoder
from embedmill.serving.proof import goldens_of
from embedmill.spec.fleet_reports import DeviceProof, EncoderOnDevice

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedmill.release.reader import Release


def nobody_knows() -> None:
    """Memory of a GPU where nobody can tell."""


def prove_device(
    release: Release,
    device: str,
    *,
    threads: int = 1,
    seconds: float = 10.0,
    gpu_memory_mib: int | None = None,
    gpu_bytes: Callable[[], int | None] = nobody_knows,
    vectors: bool = False,
) -> DeviceProof:
    """Embed the goldens of every encoder on a device, for so many seconds each.

    Args:
        release: An opened release.
        device: Where to compute: `cpu`, `cuda`, `cuda:1`, as far as the runtime knows it.
        threads: Threads a batch.
        seconds: How long each encoder embeds; all its goldens once at least.
        gpu_memory_mib: Most memory of a GPU that is taken, where the model's own limit is not lower.
        gpu_bytes: Memory of the GPU that is in use now, if somebody knows.
        vectors: Whether to tell the vectors themselves.

    Raises:
        ProofFailed: An encoder has no goldens.
        ModelError: The model cannot be loaded there.
    """
    package = ModelPackage.open(release.model_folder)
    decoder = ImageDecoder(children=threads)
    load_s, found, runtimes, memory = 0.0, [], [], []
    try:
        for name in package.spec.encoders:
            started = time.monotonic()
            encoder = Encoder.load(
                package, name, device=device, threads=threads, gpu_memory_mib=gpu_memory_mib, decoder=decoder
            )
            load_s += time.monotonic() - started
            found.append(_measure(release, encoder, seconds, vectors=vectors))
            memory.append(gpu_bytes())
            runtimes.append(f"{encoder.profile.runtime} {encoder.profile.runtime_version}")
    finally:
        decoder.close()
    known = [each for each in memory if each is not None]
    return DeviceProof(
        release=release.name,
        number=release.number,
        model=package.package_digest(),
        device=device,
        runtime=", ".join(dict.fromkeys(runtimes)),
        load_s=round(load_s, 3),
        encoders=tuple(found),
        tolerance=LOWEST_COSINE,
        rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        gpu_bytes=max(known, default=None),
    )


def _measure(release: Release, encoder: Encoder, seconds: float, *, vectors: bool) -> EncoderOnDevice:
    """The first pass is compared and not timed: kernels are chosen and compiled in it."""
    goldens = goldens_of(release, encoder)
    made_ND = encoder.encode(goldens.rows).vectors_ND
    lowest = float(cosines(made_ND, goldens.stored_ND).min())
    started, rows = time.monotonic(), 0
    while time.monotonic() - started < seconds or not rows:
        encoder.encode(goldens.rows)
        rows += goldens.rows.num_rows
    return EncoderOnDevice(
        encoder=encoder.name,
        goldens=goldens.rows.num_rows,
        lowest_cosine=round(lowest, 6),
        rows_per_s=round(rows / (time.monotonic() - started), 3),
        vectors=base64.b64encode(made_ND.astype("<f4").tobytes()).decode() if vectors else None,
    )
