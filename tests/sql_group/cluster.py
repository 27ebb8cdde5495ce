"""A PostgreSQL cluster of the tests' own, on 127.0.0.1: made, started and ended by them."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from tools.seaweedfs import HOST, free_ports

ADMIN = "admin"
PASSWORD = "tests' own: 100% /?#[]@"  # noqa: S105 - every character that a URL must escape
DEADLINE_S = 120


@dataclass(frozen=True)
class Cluster:
    """A server, whose user `admin` may do everything."""

    port: int

    def url(self, database: str) -> str:
        """Without the password, which comes from PGPASSWORD."""
        return f"postgresql://{ADMIN}@{HOST}:{self.port}/{database}"

    def connect(self, database: str) -> psycopg.Connection[Any]:
        """A connection of the tests, beside Embedmill's."""
        return psycopg.connect(
            host=HOST, port=self.port, user=ADMIN, password=PASSWORD, dbname=database, autocommit=True
        )

    def new_database(self) -> str:
        """One that nobody else uses."""
        name = f"shop_{uuid.uuid4().hex}"
        with self.connect("postgres") as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return name


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`, which Debian does not put on PATH."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return debian[-1].parent if debian else None


@contextlib.contextmanager
def running(bin_folder: Path) -> Iterator[Cluster]:
    """A new cluster with scram passwords; PostgreSQL refuses to be run by root, so another user does."""
    user = _user()
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        if user is not None:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        data = folder / "data"
        made = [f"--pgdata={data}", f"--username={ADMIN}", f"--pwfile={folder / 'password'}", "--no-sync"]
        command = [str(bin_folder / "initdb"), *made, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        subprocess.run(command, check=True, capture_output=True, user=user, cwd=folder)
        options = [f"-cport={port}", f"-clisten_addresses={HOST}", f"-cunix_socket_directories={folder}"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [bin_folder / "postgres", f"-D{data}", "-cfsync=off", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=user,
                cwd=folder,
                start_new_session=True,
            )
        try:
            cluster = Cluster(port)
            _wait(cluster, process, folder / "log")
            yield cluster
        finally:
            process.send_signal(signal.SIGINT)  # a fast shutdown, which ends its connections
            try:
                process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _user() -> str | None:
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres").pw_name
    return "nobody"


def _wait(cluster: Cluster, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            cluster.connect("postgres").close()
            return
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
