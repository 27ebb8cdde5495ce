"""nvidia-smi's XML, as drivers of several ages print it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from embedmill.devices.smi import SmiError, command, parse, pause_of
from embedmill.spec.host import HostFacts

MIB = 1 << 20
T4 = """\
<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
  <timestamp>Sat Nov 28 04:00:00 2026</timestamp>
  <driver_version>535.183.01</driver_version>
  <cuda_version>12.2</cuda_version>
  <attached_gpus>1</attached_gpus>
  <gpu id="00000000:3B:00.0">
    <product_name>Tesla T4</product_name>
    <product_brand>NVIDIA</product_brand>
    <display_active>Disabled</display_active>
    <persistence_mode>Enabled</persistence_mode>
    <mig_mode><current_mig>N/A</current_mig><pending_mig>N/A</pending_mig></mig_mode>
    <mig_devices>None</mig_devices>
    <uuid>GPU-1</uuid>
    <minor_number>2</minor_number>
    <pci><pci_bus_id>00000000:3B:00.0</pci_bus_id></pci>
    <fb_memory_usage>
      <total>15360 MiB</total><reserved>443 MiB</reserved><used>900 MiB</used>
    </fb_memory_usage>
    <compute_mode>Default</compute_mode>
    <utilization><gpu_util>37 %</gpu_util></utilization>
    <ecc_errors><volatile>
      <sram_correctable>4</sram_correctable><sram_uncorrectable>1</sram_uncorrectable>
      <dram_correctable>0</dram_correctable><dram_uncorrectable>2</dram_uncorrectable>
    </volatile></ecc_errors>
    <remapped_rows>
      <remapped_row_pending>Yes</remapped_row_pending><remapped_row_failure>No</remapped_row_failure>
    </remapped_rows>
    <processes>
      <process_info>
        <gpu_instance_id>N/A</gpu_instance_id><compute_instance_id>N/A</compute_instance_id>
        <pid>4242</pid><type>C</type><process_name>/opt/conda/bin/python</process_name>
        <used_memory>897 MiB</used_memory>
      </process_info>
    </processes>
  </gpu>
</nvidia_smi_log>
GPU-1, 7.5
pid:[4026531836]
"""
SLICED = """\
<nvidia_smi_log>
  <driver_version>450.80.02</driver_version>
  <gpu id="00000000:07:00.0">
    <product_name>A100-SXM4-40GB</product_name>
    <mig_mode><current_mig>Enabled</current_mig></mig_mode>
    <mig_devices>
      <mig_device>
        <index>0</index><gpu_instance_id>7</gpu_instance_id><compute_instance_id>0</compute_instance_id>
        <fb_memory_usage><total>4864 MiB</total><used>3000 MiB</used></fb_memory_usage>
      </mig_device>
    </mig_devices>
    <uuid>GPU-2</uuid>
    <fb_memory_usage><total>40537 MiB</total><used>3100 MiB</used></fb_memory_usage>
    <compute_mode>Exclusive_Process</compute_mode>
    <utilization><gpu_util>N/A</gpu_util></utilization>
    <processes>
      <process_info>
        <gpu_instance_id>7</gpu_instance_id><compute_instance_id>0</compute_instance_id>
        <pid>55</pid><type>C</type><process_name>python</process_name><used_memory>N/A</used_memory>
      </process_info>
    </processes>
  </gpu>
</nvidia_smi_log>
"""


def facts(text: str) -> HostFacts:
    values = {"hostname": "gpu-01", "taken": "", "window_s": 0.0, "source": "nvidia-smi"}
    return HostFacts.model_validate({**values, **parse(text)})


def test_what_it_prints_becomes_facts() -> None:
    found = facts(T4)
    gpu = found.gpus[0]
    assert (found.driver, found.cuda, found.namespaced) == ("535.183.01", (12, 2), False)
    assert (gpu.uuid, gpu.minor, gpu.pci_bus_id) == ("GPU-1", 2, "00000000:3B:00.0")
    assert (gpu.memory_bytes, gpu.used_bytes, gpu.utilisation) == (15360 * MIB, 900 * MIB, (37,))
    assert (gpu.compute_capability, gpu.compute_mode, gpu.mig) == ((7, 5), "default", False)
    assert (gpu.persistence, gpu.display, gpu.brand) == (True, False, "nvidia")
    assert (gpu.health.ecc_uncorrected, gpu.health.remap_pending, gpu.health.remap_failed) == (3, True, False)


def test_processes_have_the_names_of_their_programs() -> None:
    [process] = facts(T4).gpus[0].processes or ()
    assert (process.pid, process.name, process.used_bytes) == (4242, "python", 897 * MIB)


def test_slices_are_named_by_their_instances_and_have_their_processes() -> None:
    gpu = facts(SLICED).gpus[0]
    [device] = gpu.mig_devices
    assert (gpu.mig, gpu.compute_mode, gpu.utilisation) == (True, "exclusive", ())
    assert (device.uuid, device.used_bytes) == ("MIG-GPU-2/7/0", 3000 * MIB)
    assert [(each.pid, each.used_bytes) for each in device.processes] == [(55, None)]


def test_what_is_not_told_is_not_known() -> None:
    found = facts(SLICED)
    gpu = found.gpus[0]
    assert (found.cuda, gpu.compute_capability, gpu.persistence, gpu.health.ecc_uncorrected) == (None,) * 4
    assert found.namespaced, "without its namespace, an empty table of processes would say nothing"


def look(*, used_mib: int, utilisation: int, pid: int) -> str:
    changes = {"900 MiB": f"{used_mib} MiB", "37 %": f"{utilisation} %", ">4242<": f">{pid}<"}
    text = T4[: T4.index("GPU-1, 7.5")]
    for before, after in changes.items():
        text = text.replace(before, after)
    return text


def test_of_several_looks_the_worst_counts_and_the_pauses_between_them_are_the_window() -> None:
    looks = [look(used_mib=3, utilisation=0, pid=7), look(used_mib=950, utilisation=80, pid=8)]
    end = T4[T4.index("GPU-1, 7.5") :]
    found = parse("".join([*looks, look(used_mib=3, utilisation=2, pid=7), end]), pause_s=10)
    (gpu,) = found["gpus"]
    assert found["window_s"] == 20
    assert (gpu["used_bytes"], gpu["most_used_bytes"], gpu["utilisation"]) == (3 * MIB, 950 * MIB, [0, 80, 2])
    assert {each["pid"] for each in gpu["processes"]} == {7, 8}
    assert (gpu["compute_capability"], found["namespaced"]) == ([7, 5], False)


def test_looks_that_failed_later_make_the_window_shorter() -> None:
    whole = look(used_mib=3, utilisation=0, pid=7)
    found = parse(whole + whole + "NVIDIA-SMI has failed", pause_s=10)
    assert found["window_s"] == 10
    assert found["namespaced"], "what comes after the looks was not told"


@pytest.mark.parametrize(
    ("window_s", "every_s", "pauses"),
    [(0.0, 2.0, []), (1.0, 0.2, [1]), (15.0, 2.0, [8, 8]), (120.0, 2.0, [10] * 12), (120.0, 50.0, [40] * 3)],
)
def test_a_shell_looks_for_so_long_at_least(
    tmp_path: Path, window_s: float, every_s: float, pauses: list[int]
) -> None:
    (_, _, words) = command(window_s, every_s)
    assert pause_of(window_s, every_s) == (pauses[0] if pauses else 0)
    assert "\n" not in words
    for program, text in {"nvidia-smi": "echo look $1", "sleep": "echo $1"}.items():
        (tmp_path / program).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / program).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", words], env={"PATH": path}, capture_output=True, text=True, check=True)
    looks = ["look -q", *(line for pause in pauses for line in (str(pause), "look -q"))]
    assert done.stdout.splitlines()[: len(looks) + 1] == [*looks, "look --query-gpu=uuid,compute_cap"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", "no XML"),
        ("<nvidia_smi_log><gpu></nvidia_smi_log>", "damaged XML"),
        ("<nvidia_smi_log><gpu><uuid>GPU-1</uuid></gpu></nvidia_smi_log>", "its memory"),
    ],
)
def test_what_cannot_be_understood_is_an_error(text: str, words: str) -> None:
    with pytest.raises(SmiError, match=words):
        parse(text)
