"""What `nvidia-smi -q -x` tells, where NVML cannot be asked: one sample, and no window.

It is also what is asked of a server that has no python3 (`COMMAND`).
"""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING, Any

from embedmill.devices.procfs import INITIAL_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterable

MIB = 1 << 20
STEPS = (
    "nvidia-smi -q -x || exit $?",
    "nvidia-smi --query-gpu=uuid,compute_cap --format=csv,noheader 2>/dev/null",
    "readlink /proc/self/ns/pid 2>/dev/null",
    "exit 0",
)
"""Of one line, for login shells that take no line break in quotes."""
COMMAND = ("sh", "-c", "; ".join(STEPS))
END = "</nvidia_smi_log>"
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


def ask(timeout_s: float) -> dict[str, Any]:
    """Run it here.

    Raises:
        SmiError: It told nothing.
    """
    try:
        process = subprocess.Popen(
            COMMAND,
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


def parse(text: str) -> dict[str, Any]:
    """`driver`, `cuda`, `gpus` and `namespaced`, in the shape of `HostFacts`, of what `COMMAND` printed.

    Raises:
        SmiError: It is not what nvidia-smi prints.
    """
    begin, end = text.find("<nvidia_smi_log>"), text.find(END)
    if begin < 0 or end < 0:
        raise SmiError("nvidia-smi printed no XML")
    try:
        log = ElementTree.fromstring(text[begin : end + len(END)])  # noqa: S314 - no DTD, so no entities
    except ElementTree.ParseError as error:
        raise SmiError(f"nvidia-smi printed damaged XML: {error}") from None
    capabilities = dict(_rows(text[end + len(END) :].splitlines()))
    gpus = [_gpu(index, each, capabilities) for index, each in enumerate(log.iter("gpu"))]
    return {
        "driver": _text(log, "driver_version"),
        "cuda": _version(_text(log, "cuda_version")),
        "gpus": gpus,
        "namespaced": f"\n{INITIAL_NAMESPACE}\n" not in text[end:],
    }


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
