"""This machine, a server under a holder and a Jenkins' agents on one run.

With Ray instead of the holder it is in tests/ray_group/test_several_engines.py, every time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contracts.mixed_suite import MixedRunSuite
from tests.jenkins_group.controller import LABEL, WorkerJob
from tests.support import server_here
from tests.support.mill import Mill


@pytest.mark.soak
class TestLocalSshAndJenkins(MixedRunSuite):
    @pytest.fixture
    def settings(
        self, mill: Mill, tmp_path: Path, groovy: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[dict[str, Any]]:
        mill.open()
        fleet = server_here.server_here(mill.root, tmp_path / "here", monkeypatch)
        with WorkerJob.deployed(tmp_path / "jenkins", mill.root / "pipeline.yaml", groovy) as job:
            yield {**fleet, "engine": ["local", "ssh", "jenkins"], "jenkins": job.section(mill.root)}

    @pytest.fixture
    def workers(self) -> set[str]:
        return {"local-0", server_here.WORKER, f"jenkins-{LABEL}-0"}
