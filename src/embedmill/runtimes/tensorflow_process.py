"""TensorFlow's settings that hold for a whole process, and which of them a load may still make.

The first model that a process loads decides on devices, memory and threads: TensorFlow lets nobody change
them later. Precision can change from one call to the next. TensorFlow's module is an argument throughout, so
that all of this is tested without GPUs.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from embedmill.errors import DeviceUnavailable
from embedmill.runtimes.base import Place

LOG = logging.getLogger("embedmill.runtimes")

PRECISIONS = {"cpu": ("float32",), "cuda": ("float32", "tf32", "float16")}
REDUCED = {
    ("cpu", "bfloat16"): "auto_mixed_precision_onednn_bfloat16",
    ("cuda", "float16"): "auto_mixed_precision",
}
"""Switches of the graph optimizer that round multiplications."""


def claim(tf: Any, place: Place, *, memory_limit_mib: int | None) -> str:
    """Set a process up for a place: the name of TensorFlow's device.

    GPUs that are not asked for stay untouched, and memory is taken as it is needed.

    Raises:
        DeviceUnavailable: There is no such device, or the process has begun with another.
    """
    precisions = list(PRECISIONS.get(place.kind, ()))
    if place.kind == "cpu" and cpu_has_bfloat16():
        precisions.append("bfloat16")
    place.check("tensorflow", devices=list(PRECISIONS), precisions=precisions)  # type: ignore[arg-type]
    _claim_threads(tf, place.threads)
    gpus = [] if place.kind == "cpu" else [_gpu(tf, place.index)]
    try:
        tf.config.set_visible_devices(gpus, "GPU")
        for gpu in gpus:
            _claim_memory(tf, gpu, memory_limit_mib)
    except (RuntimeError, ValueError):  # too late: another model was first
        _check_begun(tf, gpus)
    tf.config.experimental.enable_op_determinism()
    return "/GPU:0" if gpus else "/CPU:0"  # the only one that is visible


def set_precision(tf: Any, place: Place) -> None:
    """Let the next call round as the place says, and no more."""
    tf32 = place.precision == "tf32"
    if tf.config.experimental.tensor_float_32_execution_enabled() != tf32:
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
    now = tf.config.optimizer.get_experimental_options()
    wanted = {switch: at == (place.kind, place.precision) for at, switch in REDUCED.items()}
    if any(bool(now.get(switch)) != on for switch, on in wanted.items()):
        tf.config.optimizer.set_experimental_options(wanted)


def cpu_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor multiplies bfloat16 itself."""
    try:
        flags = cpuinfo.read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _claim_threads(tf: Any, threads: int) -> None:
    config = tf.config.threading
    try:
        config.set_intra_op_parallelism_threads(threads)
        config.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        begun = config.get_intra_op_parallelism_threads()
        if begun != threads:
            LOG.warning(
                "TensorFlow computes with %s threads in this process, as was first asked, not with %d",
                begun or "all",
                threads,
            )


def _gpu(tf: Any, index: int) -> Any:
    gpus = tf.config.list_physical_devices("GPU")
    if index >= len(gpus):
        raise DeviceUnavailable(
            f"tensorflow: there is no GPU {index}: TensorFlow sees {len(gpus)}",
            hint="it takes tensorflow[and-cuda], a driver, and CUDA_VISIBLE_DEVICES that shows the GPU",
        )
    return gpus[index]


def _claim_memory(tf: Any, gpu: Any, limit_mib: int | None) -> None:
    """Memory that grows; up to a limit, where there is one.

    A device with a limit takes all of it at once, unless the environment says otherwise.
    """
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    if limit_mib is None:
        tf.config.experimental.set_memory_growth(gpu, True)
    else:
        limit = tf.config.LogicalDeviceConfiguration(memory_limit=limit_mib)
        tf.config.set_logical_device_configuration(gpu, [limit])


def _check_begun(tf: Any, wanted: list[Any]) -> None:
    visible = tf.config.get_visible_devices("GPU")
    if visible != wanted:
        names = ", ".join(gpu.name for gpu in visible) or "the CPU alone"
        raise DeviceUnavailable(
            f"tensorflow: this process computes on {names} since its first model, and cannot change",
            hint="load models for other devices in other processes",
        )
