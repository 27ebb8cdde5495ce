"""Picks the runtime that an encoder computes with here, of those that its package declares."""

from __future__ import annotations

from collections.abc import Sequence

from embedmill.errors import DeviceUnavailable, EmbedmillError, MissingExtra, ServerUnavailable
from embedmill.model.package import ModelPackage
from embedmill.runtimes import Runtime, load_runtime
from embedmill.spec import RuntimeSpec
from embedmill.store import cache_folder


def choose_runtime(
    package: ModelPackage,
    encoder: str,
    *,
    among: Sequence[RuntimeSpec],
    device: str,
    threads: int,
    gpu_memory_mib: int | None = None,
) -> tuple[RuntimeSpec, Runtime]:
    """The first of these runtimes whose library is here and that knows the device, and its section.

    Raises:
        ModelError: A file is damaged or unsafe: what is wrong with the package is never passed over.
        DeviceUnavailable: No runtime can compute on the device; says of each why not.
        MissingExtra: None of their libraries is installed; names the first's extra.
    """
    refused: list[MissingExtra | DeviceUnavailable] = []
    for spec in among:
        try:
            return spec, load_runtime(
                spec,
                package.root,
                device=device,
                threads=threads,
                precision=package.spec.precision,
                cache=cache_folder(),
                gpu_memory_mib=gpu_memory_mib,
            )
        except (MissingExtra, DeviceUnavailable) as error:
            refused.append(error)
    raise none_computes(package, encoder, refused)


def none_computes(package: ModelPackage, encoder: str, refused: Sequence[EmbedmillError]) -> EmbedmillError:
    """The error that it is where every runtime of an encoder was refused, for these reasons."""
    silent = [error for error in refused if isinstance(error, ServerUnavailable)]
    devices = [error for error in refused if isinstance(error, DeviceUnavailable)]
    if silent:  # whoever runs this again may find the server
        return silent[0]
    if len(refused) == 1 or not devices:
        return refused[0]
    reasons = "; ".join(str(error) for error in refused)
    return DeviceUnavailable(f"{package.root}: no runtime of encoder {encoder!r} computes here: {reasons}")
