"""A worker in a container on a server without the NVIDIA runtime: it works, sees its GPU, and nothing else.

The container's words are those of `container_command`, the image is that of `images build`; podman and runc are real.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.deploy_group.containers import NEEDED, Containers
from tests.fleet_group.gpu_host import USER, GpuHost, make_host
from tests.fleet_group.worker_image import build_worker_image
from tests.support.mill import Mill, items

from embedmill.fleet.container import Room, container_name, removal_command
from embedmill.spec.host import ContainerTool
from embedmill.spec.worker_images import ImageReport

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
        raise OSError(ctypes.get_errno(), name)
try:
    {attempt}
except Exception as error:
    print("refused:", error)
else:
    print("DONE")
"""
ATTEMPTS = {
    "write a program": "pathlib.Path('/usr/bin/tool').write_text('x')",
    "write a package": "pathlib.Path('/opt/embedmill/x').write_text('x')",
    "write to the driver": "pathlib.Path('/usr/local/nvidia/lib64/libcuda.so.1').open('r+b')",
    "replace a library of the driver": "pathlib.Path('/usr/local/nvidia/lib64/libnvidia-ml.so.1').unlink()",
    "write a setting of the kernel": "pathlib.Path('/proc/sys/kernel/core_pattern').write_text('x')",
    "write to the devices' settings": "pathlib.Path('/sys/kernel/uevent_helper').write_text('x')",
    "become root": "os.setuid(0)",
    "join root's group": "os.setgroups([0])",
    "mount": "call('mount', b'none', b'/tmp', b'tmpfs', 0, None)",
    "make a namespace of users": "call('unshare', 0x10000000)",
    "change the root": "os.chroot('/tmp')",
    "make a node of the other GPU": "os.mknod('/tmp/nvidia0', 0o20666, os.makedev(1, 3))",
    "open the other GPU": "os.open('/dev/nvidia0', os.O_RDWR)",
    "run a program of its own": "subprocess.run([shutil.copy('/bin/true', '/tmp/own')], check=True)",
    "connect to somewhere": "socket.create_connection(('192.0.2.1', 80), timeout=5)",
    "read the kernel's log": "call('klogctl', 3, ctypes.create_string_buffer(99), 99)",
    "trace the first process": "call('ptrace', 16, 1, 0, 0)",
    "fill the disk": "pathlib.Path('/tmp/x').write_bytes(bytes(100 << 20))",
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
        yield Containers(tmp_path_factory.mktemp("containers"), Path(short))


@pytest.fixture(scope="module")
def image(containers: Containers, tmp_path_factory: pytest.TempPathFactory) -> ImageReport:
    return build_worker_image(containers, tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def host(
    containers: Containers, image: ImageReport, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> GpuHost:
    root = make_host(tmp_path_factory.mktemp("server") / "root", library)
    return GpuHost(root, containers, image.image)


def test_a_worker_in_a_container_embeds_every_shard(mill: Mill, host: GpuHost) -> None:
    mill.settings["work"] = {"shard_rows": 100}
    planned = mill.planned(items(1000))
    store = mill.home.store.url
    subprocess.run(["chown", "-R", f"{USER}:{USER}", store], check=True)
    command = replace(host, mounts=(store,)).command(worker="in-a-container")
    done = subprocess.run(
        [*command, "worker", "--run", f"{mill.home.url}/runs/{planned.plan.run}", "--name", "in-a-container"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1,000 vectors in" in done.stderr
    commits = [path for path in Path(store).rglob("commits/*.json")]
    assert len(commits) == len(planned.plan.shards) > 1
    assert {path.stat().st_uid for path in commits} == {USER}
    assert planned.run().published


def test_nvml_in_the_container_sees_the_borrowed_gpu_alone(host: GpuHost) -> None:
    done = host.python(SEEN)
    assert done.stdout.split() == ["GPU-1"], done.stderr


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_what_it_may_not_do_fails(attempt: str, host: GpuHost) -> None:
    done = host.python(TRY.format(attempt=ATTEMPTS[attempt]))
    assert done.stdout.startswith("refused: "), done.stdout + done.stderr


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
    program = "import os\nwhile True:\n if os.fork() == 0: os.pause() if hasattr(os, 'pause') else __import__('time').sleep(60)"
    done = host.python(program, Room(processes=20, offline=True))
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


def test_sigterm_reaches_the_worker(mill: Mill, host: GpuHost) -> None:
    planned = mill.planned(items(200))
    store = mill.home.store.url
    subprocess.run(["chown", "-R", f"{USER}:{USER}", store], check=True)
    url = f"{mill.home.url}/runs/{planned.plan.run}"
    command = replace(host, mounts=(store,)).command("python3", "-c", STOPPED, worker="stopped")
    process = subprocess.Popen(
        [*command, "worker", "--run", url, "--name", "stopped"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    process.terminate()
    assert process.wait(60) == 75
    assert time.monotonic() - began < 10


STOPPED = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("ready", flush=True)
time.sleep(600)
"""


def test_the_image_says_what_is_in_it(image: ImageReport, containers: Containers) -> None:
    assert image.entry.runtimes == {"onnx": "1.32.0"}
    assert image.entry.device == "cpu"
    printed = containers.podman(
        *("run", "--rm", "--network=none", "--ulimit", "nofile=1024:20000", "--ulimit", "nproc=4096:4096"),
        *("--entrypoint=cat", image.image, "/opt/embedmill/sbom.cdx.json"),
    )
    names = {component["name"] for component in json.loads(printed)["components"]}
    assert {"embedmill", "onnxruntime", "pyarrow", "libc6"} <= names
    assert not {"pip", "setuptools", "gcc", "onnxruntime-gpu"} & names
