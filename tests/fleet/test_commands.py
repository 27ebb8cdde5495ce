"""What would be started on each GPU of a server, and on each slice of one, in words to look at."""

from __future__ import annotations

from tests.fleet.facts import GIB, fleet, gpu, host, process

from embedmill.fleet.commands import commands_of
from embedmill.spec import ImagesSpec
from embedmill.spec.fleet_reports import FleetProbe, GpuCommand, ServerProbe
from embedmill.spec.host import ContainerTool, DriverFiles, DriverLibrary, HostFacts, MigDevice

ID = "sha256:" + "ab" * 32
ONNX = {"image": ID, "runtimes": {"onnx": "1"}, "cuda": "12.2", "sass": ["7.5", "8.0"]}
TOOL = ContainerTool(name="podman", version="4.3.1", runtimes=("runc",), nvidia=True)


def commands(facts: HostFacts, **images: object) -> list[GpuCommand]:
    probe = FleetProbe(
        taken="2026-01-30T12:00:00Z",
        seconds=1.0,
        servers=(ServerProbe(server="gpu-01", state="ok", reason="", seconds=1.0, facts=facts),),
    )
    declared = ImagesSpec.model_validate({"images": images or {"onnx-12": ONNX}})
    return list(commands_of(fleet("gpu-01", room={"memory_mib": 99}), declared, probe))


def test_every_slice_has_a_command_of_its_own() -> None:
    slices = tuple(
        MigDevice(uuid=f"MIG-{letter * 8}-1", profile="1g.5gb", memory_bytes=5 * GIB, used_bytes=0)
        for letter in "ab"
    )
    sliced = gpu(name="NVIDIA A100", compute_capability=(8, 0), mig=True, mig_devices=slices)
    found = commands(host(sliced, gpu(index=1, uuid="GPU-2"), tools=(TOOL,)))
    assert [(each.index, each.uuid) for each in found] == [
        (0, "MIG-aaaaaaaa-1"),
        (0, "MIG-bbbbbbbb-1"),
        (1, "GPU-2"),
    ]
    for each, worker in zip(found, ["gpu-01-0-aaaaaaaa", "gpu-01-0-bbbbbbbb", "gpu-01-1"], strict=True):
        words = set(each.command)
        assert {f"--device=nvidia.com/gpu={each.uuid}", f"--env=CUDA_VISIBLE_DEVICES={each.uuid}"} <= words
        assert {f"--name=embedmill-RUN-{worker}", "--memory=99m"} <= words
    assert found[0].name == "NVIDIA A100 1g.5gb"


def test_a_busy_gpu_has_one_too_and_one_without_an_image_a_reason() -> None:
    busy, old = gpu(processes=(process(),)), gpu(index=1, uuid="GPU-2", compute_capability=(3, 7))
    first, second = commands(host(busy, old, tools=(TOOL,)))
    assert first.command
    assert first.reason.startswith("onnx-12: CUDA 12.2 ships with")
    assert (second.command, second.reason.split(":")[0]) == ((), "onnx-12")


def test_the_image_is_the_one_that_a_run_would_take() -> None:
    newer = {**ONNX, "image": "sha256:" + "cd" * 32, "replaces": "old"}
    (found,) = commands(host(gpu(), tools=(TOOL,)), new=newer, old=ONNX)
    assert ID in found.command
    assert "not new: it is not proven" in found.reason


def test_it_has_the_threads_of_a_loop_there() -> None:
    (found,) = commands(host(gpu(), tools=(TOOL,), cores=64))
    assert "--env=OMP_NUM_THREADS=4" in found.command


def test_a_gpu_whose_container_cannot_be_said_hides_no_other() -> None:
    files = DriverFiles(
        nodes=("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0"),
        libraries=(DriverLibrary(path="/opt/old,driver/libcuda.so", soname="libcuda.so.1"),),
    )
    tool = TOOL.model_copy(update={"nvidia": False})
    first, second = commands(host(gpu(), gpu(index=1, uuid="GPU-2"), tools=(tool,), driver_files=files))
    for found in (first, second):
        assert (found.command, "a path with a comma cannot be mounted" in found.reason) == ((), True)


def test_what_lacks_on_the_server_is_told() -> None:
    (found,) = commands(host(gpu()))
    assert found.command == ()
    assert "no podman or docker was found" in found.reason
