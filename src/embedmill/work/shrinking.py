"""Smaller batches, where there is too little memory for those that were planned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedmill.errors import OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedmill.model import Encoder
    from embedmill.spec.documents import Profile


def smaller(encoder: Encoder, error: OutOfMemory | MemoryError) -> Encoder:
    """The same encoder with batches half as large, after this error.

    Raises:
        OutOfMemory: They are the smallest already.
    """
    found = encoder.smaller()
    if found is None:
        said = error.message if isinstance(error, OutOfMemory) else "Python got no memory"
        sizes = " and ".join(f"{size} {what}" for what, size in small_batches(encoder.profile).items())
        raise OutOfMemory(
            f"{said}; batches of {sizes.replace('batch_', '')} are too large",
            hint="give it more memory, or fewer loops (`work.workers`)",
        ) from error
    return found


def small_batches(profile: Profile) -> Mapping[str, int]:
    """What an event tells of them."""
    return {"batch_tokens": profile.batch_tokens, "batch_images": profile.batch_images}
