"""The argument vector of a container, word for word: podman, docker, with and without the toolkit, MIG."""

from __future__ import annotations

from typing import Any

import pytest

from embedmill.errors import DeviceUnavailable, SpecError
from embedmill.fleet.cdi import cdi_spec
from embedmill.fleet.container import Borrowed, Room, borrowed_of, container_command, removal_command
from embedmill.spec.fleet import RoomSpec, ServerSpec
from embedmill.spec.host import ContainerTool, DriverFiles, DriverLibrary, GpuFacts, HostFacts, MigDevice
from embedmill.spec.images import CompatSpec, ImageSpec

DRIVER = "535.183.01"
DIGEST = f"registry.internal/embedmill@sha256:{'ab' * 32}"
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
PODMAN = ContainerTool(name="podman", version="4.9.3", rootless=False)
ROOTLESS = PODMAN.model_copy(update={"rootless": True})
DOCKER = ContainerTool(name="docker", version="24.0.7", rootless=False)
MIG = MigDevice(
    uuid="MIG-1", profile="1g.5gb", memory_bytes=1, used_bytes=0, gpu_instance=7, compute_instance=0
)
CPU_IMAGE = ImageSpec(image=DIGEST, runtimes={"onnx": "1.22.0"}, device="cpu")
CUDA_IMAGE = ImageSpec(image=DIGEST, runtimes={"onnx": "1.22.0"}, cuda="12.8", sass=("7.5",))
FILES = DriverFiles(
    nodes=("/dev/nvidia0", "/dev/nvidia3", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"),
    libraries=(
        DriverLibrary(path=f"{LIBRARIES}/libcuda.so.{DRIVER}", soname="libcuda.so.1"),
        DriverLibrary(
            path=f"{LIBRARIES}/libnvidia-gpucomp.so.{DRIVER}", soname=f"libnvidia-gpucomp.so.{DRIVER}"
        ),
    ),
    programs=("/usr/bin/nvidia-smi",),
    capabilities={
        "gpu3/gi7": "/dev/nvidia-caps/nvidia-cap66",
        "gpu3/gi7/ci0": "/dev/nvidia-caps/nvidia-cap67",
    },
)
NODES = ["/dev/nvidiactl", "/dev/nvidia3", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"]
INSIDE = "/usr/local/nvidia/lib64"


def gpu(**changes: Any) -> GpuFacts:
    known = {"index": 1, "uuid": "GPU-1", "name": "Tesla T4", "memory_bytes": 1, "used_bytes": 0, "minor": 3}
    return GpuFacts(**{**known, **changes})


WHOLE, ANY, ROOMY = Borrowed(gpu()), ServerSpec(), Room(memory_mib=8192, scratch_mib=1024)


def facts(*tools: ContainerTool, **changes: Any) -> HostFacts:
    known: dict[str, Any] = {
        "hostname": "gpu-07",
        "taken": "2026-01-31T23:59:59Z",
        "window_s": 0.0,
        "source": "nvml",
    }
    known |= {"driver": DRIVER, "gpus": (gpu(),), "tools": tools or (PODMAN,), "driver_files": FILES}
    return HostFacts(**{**known, "uid": 1000, "gid": 100, **changes})


def command(
    host: HostFacts,
    borrowed: Borrowed | None = WHOLE,
    image: ImageSpec = CUDA_IMAGE,
    server: ServerSpec = ANY,
    room: Room = ROOMY,
) -> list[str]:
    return list(container_command(host, borrowed, image, server, worker="gpu-07:1", run="r1", room=room))


def between(words: list[str], first: str) -> list[str]:
    """The words that begin so, without that."""
    return [word.removeprefix(first) for word in words if word.startswith(first)]


BEGIN = [
    *("run", "--interactive", "--rm", "--name=embedmill-r1-gpu-07-1"),
    *("--label=embedmill.run=r1", "--label=embedmill.worker=gpu-07:1", "--log-driver=none", "--pull=missing"),
    *(
        "--read-only",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        "--oom-score-adj=1000",
        "--stop-timeout=1",
    ),
]
ROOM = [
    *("--memory=8192m", "--pids-limit=4096"),
    "--tmpfs=/tmp:rw,nosuid,nodev,noexec,size=1024m,mode=1777",
]
ENVIRONMENT = [
    *("--env=HOME=/tmp", "--env=EMBEDMILL_CACHE=/tmp/embedmill"),
    *("--env=OMP_NUM_THREADS=1", "--env=TOKENIZERS_PARALLELISM=false"),
]
PASSED = [
    *(f"--device={node}:{node}:rw" for node in NODES),
    *(
        f"--mount=type=bind,source={source},target={target},readonly"
        for source, target in [
            (f"{LIBRARIES}/libcuda.so.{DRIVER}", f"{INSIDE}/libcuda.so.1"),
            (f"{LIBRARIES}/libcuda.so.{DRIVER}", f"{INSIDE}/libcuda.so.{DRIVER}"),
            (f"{LIBRARIES}/libnvidia-gpucomp.so.{DRIVER}", f"{INSIDE}/libnvidia-gpucomp.so.{DRIVER}"),
            ("/usr/bin/nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi"),
        ]
    ),
]
END = ["--entrypoint=embedmill", DIGEST]


def test_podman_without_the_toolkit() -> None:
    own = ["--env=CUDA_VISIBLE_DEVICES=GPU-1", f"--env=LD_LIBRARY_PATH={INSIDE}"]
    wanted = ["podman", *BEGIN, "--user=1000:100", *ROOM, *ENVIRONMENT, *own, *PASSED, *END]
    assert command(facts()) == wanted


def test_podman_that_runs_as_a_user() -> None:
    own = ["--env=CUDA_VISIBLE_DEVICES=GPU-1", f"--env=LD_LIBRARY_PATH={INSIDE}"]
    who = ["--userns=keep-id", "--user=1000:100"]
    wanted = ["podman", *BEGIN, *who, *ROOM, *ENVIRONMENT, *own, *PASSED, *END]
    assert command(facts(ROOTLESS)) == wanted


def test_docker_without_the_toolkit_has_the_same_words() -> None:
    assert command(facts(DOCKER)) == ["docker", *command(facts())[1:]]


def test_podman_with_the_toolkit_names_the_gpu_alone() -> None:
    tool = PODMAN.model_copy(update={"nvidia": True})
    own = ["--env=CUDA_VISIBLE_DEVICES=GPU-1", "--env=NVIDIA_DRIVER_CAPABILITIES=compute,utility"]
    wanted = [*BEGIN, "--user=1000:100", *ROOM, *ENVIRONMENT, *own, "--device=nvidia.com/gpu=GPU-1", *END]
    assert command(facts(tool, driver_files=DriverFiles())) == ["podman", *wanted]


def test_docker_with_the_toolkit_names_the_gpu_alone() -> None:
    words = command(facts(DOCKER.model_copy(update={"nvidia": True}), driver_files=DriverFiles()))
    assert between(words, "--gpus=") == ["device=GPU-1"]
    assert between(words, "--device=") == between(words, "--mount=") == []


def test_a_slice_has_its_gpus_node_and_those_that_open_it() -> None:
    words = command(facts(), Borrowed(gpu(), MIG))
    caps = ["/dev/nvidia-caps/nvidia-cap66", "/dev/nvidia-caps/nvidia-cap67"]
    assert between(words, "--device=") == [f"{node}:{node}:rw" for node in (*NODES, *caps)]
    assert "--env=CUDA_VISIBLE_DEVICES=MIG-1" in words


def test_a_slice_with_the_toolkit_is_named_alone() -> None:
    tool = PODMAN.model_copy(update={"nvidia": True})
    assert between(command(facts(tool), Borrowed(gpu(), MIG)), "--device=") == ["nvidia.com/gpu=MIG-1"]


def test_an_image_for_cpus_gets_nothing_of_the_gpu() -> None:
    words = command(facts(), None, CPU_IMAGE)
    assert words == ["podman", *BEGIN, "--user=1000:100", *ROOM, *ENVIRONMENT, *END]


@pytest.mark.parametrize(("rule", "folders"), [("native", INSIDE), ("minor", INSIDE)])
def test_compat_is_not_used_where_the_driver_is_new_enough(rule: Any, folders: str) -> None:
    image = CUDA_IMAGE.model_copy(update={"compat": CompatSpec(driver="570.124.06")})
    words = command(facts(), Borrowed(gpu(), rule=rule), image)
    assert between(words, "--env=LD_LIBRARY_PATH=") == [folders]


def test_compat_comes_first_where_the_rule_is_forward() -> None:
    image = CUDA_IMAGE.model_copy(update={"compat": CompatSpec(driver="570.124.06")})
    words = command(facts(), Borrowed(gpu(), rule="forward"), image)
    assert between(words, "--env=LD_LIBRARY_PATH=") == [f"/usr/local/cuda/compat:{INSIDE}"]
    with pytest.raises(SpecError, match="no compat package"):
        command(facts(), Borrowed(gpu(), rule="forward"))


@pytest.mark.parametrize("tool", [PODMAN, DOCKER])
@pytest.mark.parametrize("uid", [0, None])
def test_nobody_works_as_root(tool: ContainerTool, uid: int | None) -> None:
    assert between(command(facts(tool, uid=uid)), "--user=") == ["10001:10001"]


def test_docker_that_runs_as_a_user_has_no_users_to_keep() -> None:
    words = command(facts(DOCKER.model_copy(update={"rootless": True})))
    assert between(words, "--user=") == ["10001:10001"]
    assert between(words, "--userns=") == []


def test_folders_and_arguments_of_the_server_come_last() -> None:
    server = ServerSpec(mounts=("/mnt/mill",), arguments=("--ulimit", "nofile=1024:20000"))
    words = command(facts(), server=server)
    mount = "--mount=type=bind,source=/mnt/mill,target=/mnt/mill"
    assert words[-5:] == [mount, "--ulimit", "nofile=1024:20000", *END]


def test_the_tool_is_the_one_that_the_server_names() -> None:
    assert command(facts(PODMAN, DOCKER), server=ServerSpec(container="docker"))[0] == "docker"
    with pytest.raises(DeviceUnavailable, match="gpu-07: no docker was found"):
        command(facts(PODMAN), server=ServerSpec(container="docker"))


def test_offline_means_no_network_unless_the_server_says_which() -> None:
    room = Room(offline=True)
    assert between(command(facts(), room=room), "--network=") == ["none"]
    server = ServerSpec(arguments=("--network", "host"))
    assert between(command(facts(), server=server, room=room), "--network=") == []


def test_scratch_may_be_a_folder_of_the_server() -> None:
    words = command(facts(), room=Room(scratch="/scratch/embedmill"))
    assert "--mount=type=bind,source=/scratch/embedmill,target=/tmp" in words
    assert between(words, "--tmpfs=") == []


def test_a_gpu_or_a_slice_is_found_by_its_uuid() -> None:
    found = facts(gpus=(gpu(index=0, uuid="GPU-0", lease="run 1"), gpu(mig_devices=(MIG,))))
    assert borrowed_of(found, "MIG-1", "minor") == Borrowed(gpu(mig_devices=(MIG,)), MIG, "minor")
    assert borrowed_of(found, "GPU-0").lease == "run 1"
    with pytest.raises(DeviceUnavailable, match="there is no GPU GPU-9"):
        borrowed_of(found, "GPU-9")


def test_the_room_that_a_server_gives_is_said_of_it_or_of_all() -> None:
    general = RoomSpec(memory_mib=8192, gpu_memory_mib=6000)
    room = Room(threads=2).within(RoomSpec(memory_mib=4096, processes=50).over(general))
    assert room == Room(memory_mib=4096, processes=50, gpu_memory_mib=6000, threads=2)
    assert Room(threads=2).within(RoomSpec()) == Room(threads=2)


def test_an_image_without_a_name_is_never_asked_for_elsewhere() -> None:
    image = CPU_IMAGE.model_copy(update={"image": f"sha256:{'ab' * 32}"})
    assert between(command(facts(), None, image), "--pull=") == ["never"]


def test_a_program_of_several_words_is_what_the_image_begins_with() -> None:
    image = CPU_IMAGE.model_copy(update={"command": ("python", "-m", "embedmill")})
    assert command(facts(), None, image)[-4:] == ["--entrypoint=python", DIGEST, "-m", "embedmill"]


def test_a_node_that_lacks_is_told_with_what_the_host_said_of_it() -> None:
    nodes = tuple(node for node in FILES.nodes if node != "/dev/nvidia-uvm")
    problems = ("/dev/nvidia-uvm is absent: as root, nvidia-modprobe -u -c 0 makes it",)
    files = FILES.model_copy(update={"nodes": nodes, "problems": problems})
    with pytest.raises(DeviceUnavailable, match=r"gpu-07: no /dev/nvidia-uvm .*nvidia-modprobe -u -c 0"):
        command(facts(driver_files=files))


@pytest.mark.parametrize(
    ("borrowed", "files", "lacking"),
    [
        (Borrowed(gpu(minor=None)), FILES, "minor number of GPU 1"),
        (Borrowed(gpu(minor=5)), FILES, "no /dev/nvidia5"),
        (Borrowed(gpu()), FILES.model_copy(update={"libraries": ()}), "libcuda.so.1 of driver 535.183.01"),
        (Borrowed(gpu(), MIG.model_copy(update={"gpu_instance": 9})), FILES, "for gpu3/gi9 of MIG-1"),
    ],
)
def test_what_lacks_is_told_before_anything_starts(
    borrowed: Borrowed, files: DriverFiles, lacking: str
) -> None:
    with pytest.raises(DeviceUnavailable, match=lacking):
        command(facts(driver_files=files), borrowed)


def test_an_image_for_gpus_needs_one() -> None:
    with pytest.raises(SpecError, match="no GPU is given"):
        command(facts(), None)


def test_a_container_is_ended_by_its_name() -> None:
    assert removal_command(PODMAN, "embedmill-r1-w") == ("podman", "rm", "--force", "embedmill-r1-w")


def test_a_cdi_specification_has_every_gpu_and_slice_by_its_uuid() -> None:
    whole, sliced = gpu(index=0, uuid="GPU-0", minor=0), gpu(mig_devices=(MIG,))
    spec = cdi_spec(facts(gpus=(whole, sliced)))
    assert [device["name"] for device in spec["devices"]] == ["GPU-0", "MIG-1"]
    nodes = [node["path"] for node in spec["devices"][1]["containerEdits"]["deviceNodes"]]
    assert nodes == [*NODES, "/dev/nvidia-caps/nvidia-cap66", "/dev/nvidia-caps/nvidia-cap67"]
    edits = spec["containerEdits"]
    assert edits["env"] == [f"LD_LIBRARY_PATH={INSIDE}"]
    assert next(mount["containerPath"] for mount in edits["mounts"]) == f"{INSIDE}/libcuda.so.1"
    assert {option for mount in edits["mounts"] for option in mount["options"]} == {
        "ro",
        "nosuid",
        "nodev",
        "bind",
    }
