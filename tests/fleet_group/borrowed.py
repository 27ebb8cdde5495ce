"""A fleet to run pipelines on: servers with a GPU each, which is idle or somebody's, and `embedmill run`.

`PODMAN` stands in for containers: it takes podman's options and starts what is to run in the image as a
process of the server, with none of this machine's environment, as a container is.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from tests.models import tiny_text_package
from tests.support.fake_gpus import FakeGpu, FakeProcess, Scenario
from tests.support.gpu_servers import GpuServers, Setup
from tests.support.killing import records, start

from embedmill import Pipeline, Release

IMAGE = "sha256:" + "ab" * 32
CACHE = "@FOLDER@"
PODMAN = f"""\
case "$1" in
--version) echo "podman version 4.3.1"; exit;;
run) ;;
*) exit 0;;
esac
while [ "$1" != "{IMAGE}" ]; do
    case "$1" in --cidfile=*) set -C; echo none > "${{1#--cidfile=}}" || exit 125; set +C;; esac
    shift
done
shift
exec env -i PATH="$PATH" HOME=/tmp EMBEDMILL_CACHE="{CACHE}" OMP_NUM_THREADS=1 \\
    {sys.executable} -m embedmill "$@"
"""
SERVERS = ("gpu-01", "gpu-02", "gpu-03")
"""The last is busy."""
IDLE_GPUS = {name: FakeGpu(f"GPU-{name}", "Tesla T4", 15360, used_mib=3, cc="7.5") for name in SERVERS}


@dataclass
class Fleet:
    """Servers, and a folder with pipelines that are run on them."""

    servers: GpuServers
    folder: Path
    training: int
    podman: str = PODMAN
    image: str = IMAGE
    arguments: Sequence[str] = ()

    @property
    def address(self) -> str:
        """Of this machine, as its servers see it."""
        some = next(iter(self.servers.servers.values())).address
        return f"{some.rpartition('.')[0]}.1"

    @property
    def file(self) -> Path:
        return self.folder / "fleet.yaml"

    def start(self, name: str, *, busy: bool = False) -> None:
        """A server with one GPU."""
        programs = {"podman": with_cache(self.podman, self.folder / f"cache-{name}")}
        self.servers.start(name, Setup(self.scenario(name, busy=busy), programs=programs))

    def scenario(self, name: str, *, busy: bool) -> Scenario:
        return Scenario([IDLE_GPUS[name]], [FakeProcess(0, self.training, 900)] if busy else [])

    def turn(self, name: str, *, busy: bool) -> None:
        """Somebody comes to a server's GPU, or leaves it."""
        self.scenario(name, busy=busy).write(self.servers.servers[name].scenario)

    def write(self, *mounts: Path, **settings: Any) -> None:
        """The fleet.yaml, of the servers that were started, and its images.yaml."""
        idle = {"window_s": 1.0, "every_s": 0.25}
        spec = self.servers.fleet(timeout_s=120, idle=idle, images="images.yaml", **settings)
        document = spec.model_dump(mode="json", exclude_defaults=True)
        for server in document["servers"].values():
            server |= {"mounts": [str(each) for each in mounts], "arguments": list(self.arguments)}
        self.file.write_text(yaml.safe_dump(document))
        images = {"cpu": {"image": self.image, "runtimes": {"onnx": "1"}, "device": "cpu"}}
        (self.folder / "images.yaml").write_text(yaml.safe_dump({"images": images}))

    def kill(self, name: str) -> None:
        """The server dies: its sshd, and all that runs in its namespace."""
        server = self.servers.servers[name]
        server.process.kill()
        for process in self.processes(name):
            process.kill()

    def processes(self, name: str) -> list[psutil.Process]:
        listed = ["ip", "netns", "pids", self.servers.servers[name].namespace]
        said = subprocess.run(listed, capture_output=True, text=True, check=False).stdout
        return [psutil.Process(int(pid)) for pid in said.split() if psutil.pid_exists(int(pid))]

    def readable(self) -> Iterator[str]:
        """What others on the servers can read of their processes, and all that holders wrote."""
        for name in self.servers.servers:
            for process in self.processes(name):
                for about in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        yield Path(f"/proc/{process.pid}/{about}").read_text(errors="replace")
        for file in (self.folder / "locks").rglob("*"):
            if file.is_file():
                yield file.read_text(errors="replace")

    def workers(self) -> dict[str, list[psutil.Process]]:
        """Worker processes by server."""
        found = {}
        for name in self.servers.servers:
            found[name] = [each for each in self.processes(name) if _is_a_worker(_line(each))]
        return {name: workers for name, workers in found.items() if workers}

    def let_each_commit(self, spec: Path, *names: str) -> None:
        """Whoever has committed is stopped until all have: so that none does all before another begins."""
        deadline = time.monotonic() + 300
        stopped: dict[int, psutil.Process] = {}
        try:
            while not set(names) <= (committed := self._with_a_commit(spec)):
                assert time.monotonic() < deadline, f"only {committed} of {names} committed a shard"
                workers = self.workers()
                for worker in (each for name in committed for each in workers[name]):
                    worker.suspend()
                    stopped[worker.pid] = worker
                time.sleep(0.05)
        finally:
            for worker in stopped.values():
                with contextlib.suppress(psutil.Error):
                    worker.resume()

    def _with_a_commit(self, spec: Path) -> set[str]:
        workers = {record.worker for record in records(spec)}
        return {name for name in self.servers.servers if f"{name}-0" in workers}


def with_cache(podman: str, cache: Path) -> str:
    """The stand-in, with the cache that its containers have."""
    return podman.replace(CACHE, str(cache))


def _is_a_worker(line: list[str]) -> bool:
    """`python -m embedmill worker …` of a server, or `python /…/bin/embedmill worker …` in its container."""
    programs = {Path(word).name for word in line[:3]}
    return "embedmill" in programs and "worker" in line and "podman" not in programs


def _line(process: psutil.Process) -> list[str]:
    try:
        line: list[str] = process.cmdline()
        return line
    except psutil.Error:
        return []


def make_pipeline(folder: Path, name: str, *, items: int, shard_rows: int = 1, **settings: Any) -> Path:
    """A pipeline whose rows are the same in every call."""
    root = folder / name
    root.mkdir()
    tiny_text_package(root / "model")
    words = random.Random(7)
    titles = [" ".join(words.choices(["red", "blue", "old", "warm", "tiny"], k=9)) for _ in range(items)]
    titles = [f"{title} {number}" for number, title in enumerate(titles)]
    ids = [f"s{number}" for number in range(items)]
    table = pa.table({"sku": ids, "title": titles, "category": ["things"] * items})
    pq.write_table(table, root / "items.parquet")
    spec = {
        "name": "borrowed",
        "catalog": {"source": "items.parquet", "id": "sku", "display": ["title"]},
        "model": "model",
        "store": "./mill",
        "index": {"kind": "flat"},
        "work": {"shard_rows": shard_rows, "look_again_s": 3.0, "attempts": 100},
        **settings,
    }
    (root / "pipeline.yaml").write_text(yaml.safe_dump(spec))
    return root / "pipeline.yaml"


def begin(fleet: Fleet, spec: Path, command: str = "run", *more: str) -> subprocess.Popen[str]:
    """`embedmill run --engine ssh`, which goes on while the test does."""
    options = ["--engine", "ssh", "--fleet", str(fleet.file), "--json", *more]
    return start([command, str(spec), *options])


def end(process: subprocess.Popen[str], *, timeout_s: float = 240) -> tuple[dict[str, Any], str]:
    """Its document, and what it said; it must have published."""
    out, err = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, err
    return json.loads(out), err


def interrupt(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Ctrl-C: its exit code, and all that it said."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=240)
    return process.returncode, out + err


def live(spec: Path) -> Release:
    release = Pipeline.from_file(spec).live()
    assert release is not None
    return release


def digest_of_a_local_run(folder: Path, *, items: int, shard_rows: int = 1) -> str:
    """What the engine `local` makes of the same rows."""
    spec = make_pipeline(folder, "local", items=items, shard_rows=shard_rows)
    Pipeline.from_file(spec).run()
    return live(spec).content.content_digest
