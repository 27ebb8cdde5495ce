"""A worker in a container on a server without the NVIDIA runtime: it works, sees its GPU, and nothing else.

The container's words are those of `container_command`, its image is that of `images build`; podman is real.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.deploy_group.containers import NEEDED, Containers
from tests.fleet_group.gpu_host import HERE, USER, GpuHost, make_host
from tests.fleet_group.worker_image import build_worker_image
from tests.support.mill import Mill, items

from embedmill.deploy.image_tools import ImageTool, inspect_image
from embedmill.fleet.container import Room, container_name, removal_command
from embedmill.spec.host import ContainerTool
from embedmill.spec.worker_images import ImageReport

pytestmark = pytest.mark.timeout(900)
"""The image is built first."""
SEEN = """
import ctypes
nvml = ctypes.CDLL("libnvidia-ml.so.1")
assert nvml.nvmlInit_v2() == 0
count, device, uuid = ctypes.c_uint(), ctypes.c_void_p(), ctypes.create_string_buffer(96)
nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
for index in range(count.value):
    nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device))
    nvml.nvmlDeviceGetUUID(device, uuid, 96)
    print(uuid.value.decode())
"""
TRY = """
import ctypes, os, pathlib, shutil, socket, subprocess
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
try:
    {attempt}
except Exception as error:
    print("refused:", error)
else:
    print("DONE")
"""
NAMESPACE = "call('unshare', 0x10020000)"
"""Of users and mounts: podman's list of system calls has it, docker's has not."""
WRITABLE = 0x1000 | 0x20  # MS_BIND | MS_REMOUNT
CUDA = b"/usr/local/nvidia/lib64/libcuda.so.1"
READ_ONLY, FORBIDDEN, ABSENT = "Read-only file system|Permission denied", "not permitted", "No such file"
ATTEMPTS = {
    "write a program": ("pathlib.Path('/usr/bin/tool').write_text('x')", READ_ONLY),
    "write a package": ("pathlib.Path('/opt/embedmill/x').write_text('x')", READ_ONLY),
    "write to the driver": (f"open({CUDA!r}, 'r+b')", READ_ONLY),
    "remove a library of the driver": (f"os.unlink({CUDA!r})", READ_ONLY),
    "write a setting of the kernel": ("open('/proc/sys/kernel/core_pattern', 'w')", READ_ONLY),
    "write a setting of the network": ("open('/proc/sys/net/ipv4/ip_forward', 'w')", READ_ONLY),
    "become root": ("os.setuid(0)", FORBIDDEN),
    "join root's group": ("os.setgroups([0])", FORBIDDEN),
    "mount": ("call('mount', b'x', b'/tmp', b'tmpfs', 0, None)", FORBIDDEN),
    "change the root": ("os.chroot('/tmp')", FORBIDDEN),
    "make a node of the other GPU": ("os.mknod('/tmp/nvidia0', 0o20666, os.makedev(1, 3))", FORBIDDEN),
    "open the other GPU": ("os.open('/dev/nvidia0', os.O_RDWR)", ABSENT),
    "make a node as root of a namespace": (
        f"{NAMESPACE}; os.mknod('/dev/shm/nvidia0', 0o20666, os.makedev(1, 3))",
        FORBIDDEN,
    ),
    "make the root writable as root of a namespace": (
        f"{NAMESPACE}; call('mount', b'', b'/', None, {WRITABLE}, None)",
        FORBIDDEN,
    ),
    "make the driver writable as root of a namespace": (
        f"{NAMESPACE}; call('mount', b'', {CUDA!r}, None, {WRITABLE}, None)",
        FORBIDDEN,
    ),
    "run a program of its own": ("subprocess.run([shutil.copy('/bin/true', '/tmp/own')])", "denied"),
    "connect to somewhere": ("socket.create_connection(('192.0.2.1', 80), timeout=5)", "unreachable"),
    "read the kernel's log": ("call('klogctl', 3, ctypes.create_string_buffer(99), 99)", FORBIDDEN),
    "fill the disk": ("pathlib.Path('/tmp/x').write_bytes(bytes(100 << 20))", "No space left"),
}
CAPABILITIES = """
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
head = ctypes.create_string_buffer(struct.pack("<Ii", 0x20080522, 0))
everything = ctypes.create_string_buffer(struct.pack("<6I", *[0xFFFFFFFF] * 6))
print("capset", libc.capset(head, everything), ctypes.get_errno())
wanted = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid")
for line in open("/proc/self/status"):
    if line.split(":")[0] in wanted:
        print(*line.split())
"""


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """Skips where nothing can be built."""
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    if lacking or os.geteuid() != 0:
        pytest.skip(f"no image can be built here: {', '.join(lacking) or 'not root'}")
    with tempfile.TemporaryDirectory(prefix="run-") as short:  # podman takes 50 characters at most
        made = Containers(tmp_path_factory.mktemp("containers"), Path(short))
        yield made
        made.remove()


@pytest.fixture(scope="module")
def image(containers: Containers, tmp_path_factory: pytest.TempPathFactory) -> ImageReport:
    return build_worker_image(containers, tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def host(
    containers: Containers, image: ImageReport, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> GpuHost:
    root = make_host(tmp_path_factory.mktemp("server") / "root", library)
    return GpuHost(root, containers, image.image)


@pytest.mark.soak(quick=1, large=3)
def test_a_worker_in_a_container_embeds_every_shard(seed: int, mill: Mill, host: GpuHost) -> None:
    count = (1000, 30_000, 100_000)[seed]
    command = worker_command(mill, mill_host(mill, host), count, "in-a-container")
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{count:,} vectors in" in done.stderr
    assert len(commits_of(mill)) > 1
    assert {path.stat().st_uid for path in commits_of(mill)} == {USER}
    report = mill.open().open_run(None).run()
    assert (report.computed, report.quarantined) == (count, 0)


def test_nvml_in_the_container_sees_the_borrowed_gpu_alone(host: GpuHost) -> None:
    done = host.python(SEEN)
    assert done.stdout.split() == ["GPU-1"], done.stderr


def test_podman_hands_a_gpu_out_by_a_cdi_specification(host: GpuHost, tmp_path: Path) -> None:
    """It lies in /etc/cdi of a namespace of mounts of its own."""
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / "nvidia.json").write_text(host.cdi_json())
    run = ["run", "--rm", "--network=none", "--device=nvidia.com/gpu=GPU-1", *HERE, *host.scenario]
    command = host.containers.podman_command(*run, "--entrypoint=python3", host.image, "-c", SEEN)
    overlay = ["-t", "overlay", "-o", f"lowerdir={tmp_path}:/etc", "overlay", "/etc"]
    script = f"mount {shlex.join(overlay)} && exec {shlex.join(command)}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["GPU-1"], done.stderr


@pytest.mark.parametrize("name", ATTEMPTS)
def test_what_it_may_not_do_is_refused(name: str, host: GpuHost) -> None:
    attempt, words = ATTEMPTS[name]
    done = host.python(TRY.format(attempt=attempt))
    assert re.match(f"refused: .*({words})", done.stdout), done.stdout + done.stderr


def test_an_attempt_that_is_allowed_is_seen_as_done(host: GpuHost) -> None:
    done = host.python(TRY.format(attempt="pathlib.Path('/tmp/x').write_bytes(bytes(1 << 20))"))
    assert done.stdout == "DONE\n", done.stdout + done.stderr


def test_it_has_no_capability_and_gets_none(host: GpuHost) -> None:
    lines = host.python(CAPABILITIES).stdout.splitlines()
    assert lines[0] == "capset -1 1", "not permitted"
    status = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert {int(status[f"Cap{which}:"][0], 16) for which in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert status["NoNewPrivs:"] == ["1"]
    assert status["Seccomp:"] == ["2"]
    assert status["Uid:"] == [str(USER)] * 4


def test_it_has_as_many_processes_as_it_was_given(host: GpuHost) -> None:
    done = host.python(
        "import os, time\nwhile os.fork(): pass\ntime.sleep(60)", Room(processes=20, offline=True)
    )
    assert "BlockingIOError" in done.stderr


def test_it_has_as_much_memory_as_it_was_given(host: GpuHost) -> None:
    done = host.python("x = b'x' * (400 << 20); print('DONE')", Room(memory_mib=128, offline=True))
    assert done.returncode == 137
    assert done.stdout == ""


def test_what_its_command_leaves_behind_is_removed_by_its_name(host: GpuHost) -> None:
    command = host.command(
        "python3", "-c", "import time; print('up', flush=True); time.sleep(600)", worker="left"
    )
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    process.kill()
    process.wait()
    name = container_name("test", "left")
    assert running(host, name), "who kills podman does not kill the container"
    tool = ContainerTool(name="podman", version="4.3.1")
    host.containers.podman(*removal_command(tool, name)[1:])
    assert not running(host, name)


def test_a_worker_that_is_told_to_stop_yields(mill: Mill, host: GpuHost) -> None:
    """By SIGTERM to podman, as whoever holds the GPU's lock sends it."""
    process = subprocess.Popen(
        worker_command(mill, mill_host(mill, host), 20_000, "stopped"), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 240
    while not commits_of(mill):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.05)
    process.terminate()
    assert process.wait(120) == 75


def mill_host(mill: Mill, host: GpuHost) -> GpuHost:
    """The server with the mill's store mounted."""
    return replace(host, mounts=(mill.home.store.url,))


def worker_command(mill: Mill, host: GpuHost, count: int, name: str) -> list[str]:
    """Plan so many items, and how a worker is started on the run; the store is the worker's user's."""
    mill.settings["work"] = {"shard_rows": 100}
    run = mill.planned(items(count)).plan.run
    subprocess.run(["chown", "-R", f"{USER}:{USER}", mill.home.store.url], check=True)
    return [*host.command(worker=name), "worker", "--run", f"{mill.home.url}/runs/{run}", "--name", name]


def commits_of(mill: Mill) -> list[Path]:
    return list(Path(mill.home.store.url).rglob("commits/*.json"))


def running(host: GpuHost, name: str) -> bool:
    return name in host.containers.podman("ps", "--format", "{{.Names}}").split()


def test_the_image_says_what_is_in_it(image: ImageReport, containers: Containers) -> None:
    tool = ImageTool(tuple(containers.podman_command()))
    found = inspect_image(tool, image.image, packages=True, more=HERE)
    assert found.entry == image.entry
    assert (found.entry.runtimes, found.entry.device) == ({"onnx": "1.32.0"}, "cpu")
    names = {package.name for package in found.packages}
    assert {"embedmill", "onnxruntime", "pyarrow", "libc6"} <= names
    assert not {"pip", "setuptools", "gcc", "onnxruntime-gpu"} & names
    assert 0 < sum(package.size_bytes for package in found.packages if package.kind == "pypi") < 500e6


def test_nothing_in_the_image_compiles_or_installs(host: GpuHost) -> None:
    program = (
        "import shutil; print([t for t in ('cc', 'gcc', 'make', 'pip', 'pip3', 'curl') if shutil.which(t)])"
    )
    assert host.python(program).stdout == "[]\n"
