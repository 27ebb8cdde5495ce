"""A process that is confined to a folder reads, writes, runs and asks nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.decoding.test_pool import has_landlock

CONFINED = """
import socket, subprocess, sys
from pathlib import Path
from embedmill.decoding.confinement import confine_to
inside, outside = Path(sys.argv[1]), Path(sys.argv[2])
confine_to(inside, readable=map(Path, [sys.prefix, sys.base_prefix, "/usr", "/lib", "/nowhere"]))
attempts = {
    "read": lambda: (outside / "secret").read_text(),
    "list": lambda: list(outside.iterdir()),
    "write": lambda: (outside / "secret").write_text("x"),
    "make": lambda: (outside / "canary").touch(),
    "link": lambda: (inside / "link").symlink_to(outside / "secret"),
    "run": lambda: subprocess.run(["/bin/true"]),
    "ask": lambda: socket.create_connection(("127.0.0.1", int(sys.argv[3])), 5),
}
for name, attempt in attempts.items():
    try:
        attempt()
        print(name)
    except OSError:
        pass
(inside / "folder").mkdir()
(inside / "made").write_text("mine")
(inside / "made").rename(inside / "folder" / "made")
print((inside / "folder" / "made").read_text())
"""


@pytest.mark.skipif(not has_landlock(), reason="this kernel has no Landlock")
def test_it_works_in_its_folder_and_nowhere_else(tmp_path: Path) -> None:
    import socket

    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        command = [sys.executable, "-c", CONFINED, str(inside), str(outside), str(port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "mine\n"), done.stderr
    assert [file.name for file in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "secret"
