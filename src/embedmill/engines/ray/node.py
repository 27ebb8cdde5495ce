"""A node of a Ray cluster for as long as a GPU is lent: joins, and leaves within seconds of SIGTERM.

SIGTERM ─▶ worker loops here: SIGTERM, they end after their batch
        └▶ `ray start --block`: tells the cluster that the node goes, ends the raylet ─▶ exit 75

Runs in the container of a GPU server. The token comes through stdin and lies in memory alone: in a file of
`/dev/shm`, which Ray's processes read. The container's temporary folder may be a disk of the server.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from embedmill.devices.processes import ours
from embedmill.devices.procfs import is_worker
from embedmill.engines.ray.bridge import SETTINGS
from embedmill.errors import EngineUnavailable, Yielded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

MIB = 1 << 20
DRAIN_S = 2
"""For worker loops to end after their batch. A holder that is in a hurry waits for 6 s in all."""
LEAVE_S = 5.0
POLL_S = 0.1
TRIES = 3
TOO_SLOW = "timed out during startup"
"""Ray gives its own processes 30 s: an image on a cold disk may need them for its first start."""
CONNECT_S = 10.0
LAST_LINES = 30
MEMORY = Path("/dev/shm")  # noqa: S108 - files in it are made by mkstemp
IN_MEMORY = frozenset({"tmpfs", "ramfs"})
LONGEST_FOLDER = 40
"""Characters: Ray puts sockets 60 more below it, and a socket's path has 107 at most."""


@dataclass(frozen=True)
class NodeOrder:
    """What a node is to be. `address`: HOST:PORT of the head. Its memory Ray reads of its control group."""

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)
    cpus: int = 1
    gpus: int = 0
    store_mib: int = 128


def join(order: NodeOrder, token: str | None) -> NoReturn:
    """Be a node until SIGTERM, or until Ray ends.

    Raises:
        EngineUnavailable: The head cannot be reached, or there is no memory for the token; or Ray ended, and
            its last words are told.
        Yielded: Somebody sent SIGTERM.
    """
    own_address = _address_towards(order.address)
    leaving = _Leaving()
    told = ""
    with token_file(token) as secret:
        for _ in range(TRIES):
            with _private_folder() as folder:
                told = _try(order, secret, own_address, folder, leaving)
            if TOO_SLOW not in told:
                break
    raise EngineUnavailable(told)


def _try(order: NodeOrder, secret: Path | None, own_address: str, folder: Path, leaving: _Leaving) -> str:
    """Be a node; returns how Ray ended."""
    command = start_command(order, own_address, folder)
    # In this session: a holder ends whole groups of processes, and this is in one of its own.
    with subprocess.Popen(
        command,
        env={**os.environ, **node_environment(secret)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as ray:
        words = _Words(ray.stdout)
        while ray.poll() is None and not leaving.asked:
            words.read()
            time.sleep(POLL_S)
        if leaving.asked:
            _leave(ray)
            raise Yielded("the node was asked to leave the cluster")
        told = "; ".join((words.last(), *_told_in(folder)))
        return f"Ray ended with exit code {ray.returncode}: {told}"


def start_command(order: NodeOrder, own_address: str, folder: Path) -> list[str]:
    """`ray start --block …`: of what this node has, whatever Ray would find by itself."""
    labels = ",".join(f"{name}={value}" for name, value in order.labels.items())
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
        *(f"--address={order.address}", f"--node-ip-address={own_address}"),
        *(f"--num-cpus={order.cpus}", f"--num-gpus={order.gpus}"),
        f"--object-store-memory={order.store_mib * MIB}",
        # Several nodes may be on one server: no port is the same for all.
        *("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"),
        *(f"--temp-dir={folder}", "--disable-usage-stats"),
        *([f"--labels={labels}"] if labels else []),
    ]


def node_environment(secret: Path | None) -> dict[str, str]:
    """Variables of Ray's processes; the token is in the file `secret`, whose path alone they have."""
    made = {
        **SETTINGS,
        "RAY_AUTH_MODE": "disabled" if secret is None else "token",
        "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(DRAIN_S),
        "RAY_enable_worker_prestart": "0",
        "RAY_COLOR_MODE": "false",
        "PYTHONUNBUFFERED": "1",
    }
    if secret is not None:
        made["RAY_AUTH_TOKEN_PATH"] = str(secret)
    return made


@contextlib.contextmanager
def token_file(token: str | None, folder: Path = MEMORY) -> Iterator[Path | None]:
    """The token in a file of this user alone, which is on no disk, whoever is killed.

    Raises:
        EngineUnavailable: The folder is not in memory.
    """
    if token is None:
        yield None
        return
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text("utf-8").splitlines()]
    kinds = [kind for where, kind in mounts if where == str(folder)]
    if not kinds or kinds[-1] not in IN_MEMORY:
        raise EngineUnavailable(
            f"{socket.gethostname()}: {folder} is not in memory, and the token must be on no disk",
            hint="the container needs --shm-size, or --ipc other than none, in fleet.yaml's `arguments`",
        )
    descriptor, name = tempfile.mkstemp(prefix="embedmill-", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(token)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _told_in(folder: Path) -> Iterator[str]:
    """The last line of what each of Ray's processes wrote to stderr: who fails takes the others with it."""
    for log in sorted(folder.glob("session_2*/logs/*.err")):
        lines = log.read_text("utf-8", errors="replace").strip().splitlines()
        if lines:
            yield f"{log.stem}: {lines[-1].strip()}"


class _Leaving:
    """Whether somebody sent SIGTERM."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signal API
        self.asked = True


class _Words:
    """The last lines that were written into a pipe, read without waiting."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        if pipe is None:
            raise EngineUnavailable("what Ray says cannot be read: there is no pipe")
        self._descriptor = pipe.fileno()
        os.set_blocking(self._descriptor, False)
        self._rest = ""
        self._lines: deque[str] = deque(maxlen=LAST_LINES)

    def read(self) -> None:
        """Keep what there is."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._descriptor, 1 << 16):
                *whole, self._rest = (self._rest + chunk.decode(errors="replace")).split("\n")
                self._lines.extend(line.strip() for line in whole if line.strip())

    def last(self) -> str:
        """The last line that says something, in full."""
        self.read()
        lines = [*self._lines, *([self._rest.strip()] if self._rest.strip() else [])]
        return lines[-1] if lines else "without a word"


def _leave(ray: subprocess.Popen[bytes]) -> None:
    """Worker loops end after their batch; Ray tells the cluster meanwhile, then ends what is left."""
    for pid in _loops():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    ray.terminate()
    try:
        ray.wait(LEAVE_S)
    except subprocess.TimeoutExpired:
        ray.kill()


def _loops() -> Iterator[int]:
    """Worker loops that this process has below it."""
    is_ours = ours(os.getpid())
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_text(errors="replace").split("\0")
                if is_worker(words) and is_ours(int(entry.name)):
                    yield int(entry.name)


def _address_towards(head: str) -> str:
    """Which of this server's addresses the head sees; also whether it can be reached at all.

    Raises:
        EngineUnavailable: It cannot.
    """
    host, _, port = head.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_S) as connection:
            address: str = connection.getsockname()[0]
            return address
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise EngineUnavailable(
            f"{socket.gethostname()} cannot reach {head}, the head of the cluster: {why.lower()}",
            hint="servers and head must reach each other on all ports, not by ssh alone",
        ) from None


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder of this user alone, with a name that is short enough for sockets."""
    temporary = tempfile.gettempdir()
    where = temporary if len(temporary) <= LONGEST_FOLDER - len("/ray-12345678") else "/tmp"  # noqa: S108 - mkdtemp makes a private one
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir=where))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
