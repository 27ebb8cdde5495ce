"""`prove`: does a device of this machine make the vectors of a release?"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from embedmill.cli.options import AsJson, EnvironmentStdin, GpuMemory, Target, take_environment
from embedmill.cli.output import data, emit, facts, size, table, talk
from embedmill.cli.searching import PANEL, open_target
from embedmill.errors import ProofFailed

if TYPE_CHECKING:
    from embedmill.spec.fleet_reports import DeviceProof


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PANEL)(prove)


def prove(
    target: Target,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, tpu.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads a batch.")] = 1,
    seconds: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.0, help="How long each encoder embeds, to see how fast it is."),
    ] = 10.0,
    gpu: Annotated[
        str | None, typer.Option(metavar="UUID", help="The GPU whose memory is looked at.")
    ] = None,
    gpu_memory: GpuMemory = None,
    vectors: Annotated[bool, typer.Option("--vectors", help="Tell the vectors, too, with --json.")] = False,
    environment_stdin: EnvironmentStdin = False,
    as_json: AsJson = False,
) -> None:
    """Embed a release's goldens on a device: the published vectors? How fast, in how much memory?"""
    from embedmill.serving.device_proof import prove_device

    if environment_stdin:
        take_environment()
    release = open_target(target)
    if not as_json:
        talk().print(f"release {release.name}: embedding its goldens on {device}", soft_wrap=True)
    used = partial(_used_bytes, gpu)
    proof = prove_device(
        release,
        device,
        threads=threads,
        seconds=seconds,
        gpu_memory_mib=gpu_memory,
        gpu_bytes=used,
        vectors=vectors,
    )
    emit(proof) if as_json else _print(proof)
    if not proof.passed:
        raise typer.Exit(ProofFailed.exit_code)


def _used_bytes(gpu: str | None) -> int | None:
    """Memory of a GPU that is in use, as far as the driver tells."""
    from embedmill.devices.occupants import GpuUnknown, used_bytes

    try:
        return None if gpu is None else used_bytes(gpu)
    except GpuUnknown:
        return None


def _print(proof: DeviceProof) -> None:
    from rich.text import Text

    words = {True: Text("pass", "green"), False: Text("FAIL", "bold red")}
    rows = [
        (
            each.encoder,
            words[each.lowest_cosine >= proof.tolerance],
            each.goldens,
            f"{each.lowest_cosine:.6f}",
            f"{each.rows_per_s:,.1f}",
        )
        for each in proof.encoders
    ]
    columns = ("encoder", "verdict", "goldens", "lowest cosine", "rows/s")
    memory = "unknown" if proof.gpu_bytes is None else size(proof.gpu_bytes)
    data().print(table(*columns, rows=rows, numbers=(2, 3, 4)))
    data().print(
        facts(
            [
                ("device", proof.device),
                ("runtime", proof.runtime),
                ("loaded in", f"{proof.load_s:.1f} s"),
                ("memory", size(proof.rss_bytes)),
                ("memory of the GPU", memory),
            ]
        )
    )
