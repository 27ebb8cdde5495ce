"""tools/seaweedfs.py runs a command beside an S3 server that ends with it, however that is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

TOOL = [sys.executable, str(Path(__file__).resolve().parents[2] / "tools" / "seaweedfs.py")]
PUT = "from embedmill.store import open_store; open_store('s3://bucket/x').put_if_absent('a', b'1')"
GET = "from embedmill.store import open_store; print(open_store('s3://bucket/x').get('a'))"

INTERRUPTED = """
import sys, time
print("here", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(7)
"""


def beside(data: Path, *command: str) -> list[str]:
    return [*TOOL, "--data", str(data), "--bucket", "bucket", *command]


def servers_on(data: Path) -> list[int]:
    found = psutil.process_iter(["cmdline"])
    return [each.pid for each in found if f"-dir={data}" in (each.info["cmdline"] or [])]


@pytest.mark.soak
def test_a_command_finds_the_server_and_the_next_one_its_data(tmp_path: Path) -> None:
    data = tmp_path / "data"
    subprocess.run(beside(data, sys.executable, "-c", PUT), check=True, timeout=120)
    assert servers_on(data) == []
    assert data.joinpath("s3.json").stat().st_mode & 0o077 == 0
    done = subprocess.run(
        beside(data, sys.executable, "-c", GET), check=True, timeout=120, stdout=subprocess.PIPE, text=True
    )
    assert "b'1'" in done.stdout


def test_what_the_command_returned_is_returned_and_ctrl_c_ends_the_server_too(tmp_path: Path) -> None:
    data = tmp_path / "data"
    process = subprocess.Popen(
        beside(data, sys.executable, "-c", INTERRUPTED),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("here"):
            break
    time.sleep(0.2)
    assert len(servers_on(data)) == 1
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 7
    process.stdout.close()
    assert servers_on(data) == []
