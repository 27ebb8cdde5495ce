"""The stand-in for podman does what the tests of this group take it for."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.fleet_group.borrowed import IMAGE, PODMAN, with_cache

TELLS = "import json, os; print(json.dumps(dict(os.environ)))"


def test_a_container_has_a_cache_of_its_servers_own(tmp_path: Path) -> None:
    started = with_cache(PODMAN, tmp_path / "cache").replace("-m embedmill", f"-c '{TELLS}'")
    command = ["sh", "-c", started, "podman", "run", IMAGE]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(said.stdout)["EMBEDMILL_CACHE"] == str(tmp_path / "cache")
