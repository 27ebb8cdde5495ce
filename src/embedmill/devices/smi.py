"""What `nvidia-smi -q -x` tells, where NVML cannot be asked.

It is also what is asked of a server that has no python3: by a shell alone, again and again (`command`).
"""

from __future__ import annotations

import math
import subprocess
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING, Any

from embedmill.devices.procfs import INITIAL_NAMESPACE
from embedmill.devices.sampling import add_sample

if TYPE_CHECKING:
    from collections.abc import Iterable

MIB = 1 << 20
EVERY_S = 10.0
"""Seconds between two looks at least: each starts a program, which asks for everything there is."""
LOOK = "nvidia-smi -q -x || exit $?"
STEPS = (
    "nvidia-smi --query-gpu=uuid,compute_cap --format=csv,noheader 2>/dev/null",
    "readlink /proc/self/ns/pid 2>/dev/null",
    "exit 0",
)
BEGIN, END = "<nvidia_smi_log>", "</nvidia_smi_log>"
MODES = {
    "default": "default",
    "exclusive_process": "exclusive",
    "exclusive_thread": "exclusive",
    "prohibited": "prohibited",
}
ECC_COUNTERS = (
    "sram_uncorrectable",
    "sram_uncorrectable_parity",
    "sram_uncorrectable_secded",
    "dram_uncorrectable",
    "double_bit/total",
)
"""Of memory, as drivers of several ages call them."""
CONTEXTS = {"C": "compute", "G": "graphics", "C+G": "compute"}


class SmiError(Exception):
    """nvidia-smi is absent, fails, hangs, or says what cannot be understood."""


def pause_of(window_s: float, every_s: float = EVERY_S) -> int:
    """Whole seconds between two looks of `command`, for shells know no others; 0: there is one look."""
    return math.ceil(window_s / _pauses(window_s, every_s)) if window_s else 0


def command(window_s: float = 0.0, every_s: float = EVERY_S) -> tuple[str, ...]:
    """Looks for so long at least, the last time at the end; what `parse` reads is what it prints.

    Of one line, for login shells that take no line break in quotes.
    """
    pauses = " ".join(map(str, range(_pauses(window_s, every_s))))
    again = f"for each in {pauses}; do sleep {pause_of(window_s, every_s)}; {LOOK}; done"
    return ("sh", "-c", "; ".join((LOOK, *((again,) if pauses else ()), *STEPS)))


def _pauses(window_s: float, every_s: float) -> int:
    return math.ceil(window_s / max(every_s, EVERY_S))


def ask(timeout_s: float) -> dict[str, Any]:
    """Look once, here.

    Raises:
        SmiError: It told nothing.
    """
    try:
        process = subprocess.Popen(
            command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        out, words = process.communicate(timeout=timeout_s)
    except OSError as error:
        raise SmiError(f"nvidia-smi: {error}") from None
    except subprocess.TimeoutExpired:
        process.kill()  # and no wait: what hangs in the driver cannot even be killed
        raise SmiError(f"nvidia-smi gave no answer in {timeout_s:.0f} s") from None
    said = (out + words).decode(errors="replace").strip()
    if END not in said:
        raise SmiError(said.splitlines()[-1] if said else f"nvidia-smi ended with {process.returncode}")
    return parse(out.decode(errors="replace"))


def parse(text: str, pause_s: float = 0.0) -> dict[str, Any]:
    """What `command` printed, with so long a pause between looks, in the shape of `HostFacts`.

    `driver`, `cuda`, `gpus`, `namespaced` and `window_s`. Figures of GPUs are the worst of all looks.

    Raises:
        SmiError: It is not what nvidia-smi prints.
    """
    *looks, rest = text.split(END)
    if not looks or not all(BEGIN in look for look in looks):
        raise SmiError("nvidia-smi printed no XML")
    capabilities = dict(_rows(rest.splitlines()))
    first, *later = [_log(look) for look in looks]
    gpus = _gpus(first, capabilities)
    for log in later:
        add_look(gpus, _gpus(log, capabilities))
    return {
        "driver": _text(first, "driver_version"),
        "cuda": _version(_text(first, "cuda_version")),
        "gpus": gpus,
        "namespaced": f"\n{INITIAL_NAMESPACE}\n" not in rest,
        "window_s": len(later) * pause_s,
    }


def add_look(gpus: list[dict[str, Any]], later: list[dict[str, Any]]) -> None:
    """Let GPUs have what a later look found, where that is worse."""
    found = {each["uuid"]: each for each in later}
    for gpu in gpus:
        sample = found.get(gpu["uuid"])
        if sample is not None:
            add_sample(gpu, {**sample, "utilisation": (sample["utilisation"] or [None])[0]})


def _log(look: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(look[look.find(BEGIN) :] + END)  # noqa: S314 - no DTD, so no entities
    except ElementTree.ParseError as error:
        raise SmiError(f"nvidia-smi printed damaged XML: {error}") from None


def _gpus(log: ElementTree.Element, capabilities: dict[str, list[int]]) -> list[dict[str, Any]]:
    return [_gpu(index, each, capabilities) for index, each in enumerate(log.iter("gpu"))]


def _gpu(index: int, gpu: ElementTree.Element, capabilities: dict[str, list[int]]) -> dict[str, Any]:
    uuid = _text(gpu, "uuid") or f"unknown-{index}"
    used = _bytes(gpu, "fb_memory_usage/used")
    memory = _bytes(gpu, "fb_memory_usage/total")
    if used is None or memory is None:
        raise SmiError(f"GPU {index}: nvidia-smi does not tell its memory")
    mig = _text(gpu, "mig_mode/current_mig")
    utilisation = _number(gpu, "utilization/gpu_util")
    return {
        "index": index,
        "uuid": uuid,
        "name": _text(gpu, "product_name") or "unknown",
        "memory_bytes": memory,
        "used_bytes": used,
        "minor": _number(gpu, "minor_number"),
        "pci_bus_id": _text(gpu, "pci/pci_bus_id") or gpu.get("id"),
        "compute_capability": capabilities.get(uuid),
        "brand": _brand(_text(gpu, "product_brand")),
        "utilisation": [] if utilisation is None else [utilisation],
        "most_used_bytes": used,
        "processes": _processes(gpu.find("processes")),
        "compute_mode": MODES.get((_text(gpu, "compute_mode") or "").lower()),
        "persistence": _switch(_text(gpu, "persistence_mode")),
        "display": _switch(_text(gpu, "display_active")),
        "mig": False if mig is None else _switch(mig),
        "mig_devices": [_slice(uuid, each, gpu) for each in gpu.findall("mig_devices/mig_device")],
        "health": {
            "ecc_uncorrected": _ecc(gpu),
            "remap_pending": _switch(_text(gpu, "remapped_rows/remapped_row_pending")),
            "remap_failed": _switch(_text(gpu, "remapped_rows/remapped_row_failure")),
        },
    }


def _slice(uuid: str, device: ElementTree.Element, gpu: ElementTree.Element) -> dict[str, Any]:
    """A slice has no UUID here: the older name, of its GPU and its instances, stands for it."""
    instances = [_number(device, name) for name in ("gpu_instance_id", "compute_instance_id")]
    processes = [
        each
        for each in gpu.iter("process_info")
        if [_number(each, name) for name in ("gpu_instance_id", "compute_instance_id")] == instances
    ]
    return {
        "uuid": _text(device, "uuid") or f"MIG-{uuid}/{instances[0]}/{instances[1]}",
        "profile": _text(device, "profile") or "",
        "memory_bytes": _bytes(device, "fb_memory_usage/total") or 0,
        "used_bytes": _bytes(device, "fb_memory_usage/used") or 0,
        "processes": [_process(each) for each in processes],
        "gpu_instance": instances[0],
        "compute_instance": instances[1],
    }


def _processes(table: ElementTree.Element | None) -> list[dict[str, Any]] | None:
    """None where it says `N/A`, or nothing at all."""
    if table is None or (len(table) == 0 and (table.text or "").strip() == "N/A"):
        return None
    return [_process(each) for each in table.iter("process_info")]


def _process(entry: ElementTree.Element) -> dict[str, Any]:
    name = (_text(entry, "process_name") or "").split(" ")[0].rpartition("/")[2]
    return {
        "pid": _number(entry, "pid") or 0,
        "name": name or None,
        "used_bytes": _bytes(entry, "used_memory"),
        "kind": CONTEXTS.get(_text(entry, "type") or "", "compute"),
    }


def _ecc(gpu: ElementTree.Element) -> int | None:
    volatile = gpu.find("ecc_errors/volatile")
    if volatile is None:
        return None
    told = [_number(volatile, name) for name in ECC_COUNTERS]
    counts = [count for count in told if count is not None]
    return sum(counts) if counts else None


def _brand(text: str | None) -> str | None:
    """`GeForce RTX` as NVML's brands are spelt."""
    return None if text is None else text.lower().replace(" ", "")


def _rows(lines: Iterable[str]) -> Iterable[tuple[str, list[int]]]:
    for line in lines:
        uuid, _, capability = line.partition(", ")
        version = _version(capability.strip())
        if version is not None:
            yield uuid.strip(), version


def _version(text: str | None) -> list[int] | None:
    major, _, minor = (text or "").partition(".")
    return [int(major), int(minor)] if major.isdigit() and minor.isdigit() else None


def _text(element: ElementTree.Element, path: str) -> str | None:
    """None where there is nothing, or `N/A`."""
    text = (element.findtext(path) or "").strip()
    return None if text in ("", "N/A", "[N/A]", "Not Supported", "[Not Supported]") else text


def _number(element: ElementTree.Element, path: str) -> int | None:
    word = (_text(element, path) or "").split(" ")[0]
    return int(word) if word.isdigit() else None


def _bytes(element: ElementTree.Element, path: str) -> int | None:
    mib = _number(element, path)
    return None if mib is None else mib * MIB


def _switch(text: str | None) -> bool | None:
    return {"Enabled": True, "Disabled": False, "Yes": True, "No": False}.get(text or "")
